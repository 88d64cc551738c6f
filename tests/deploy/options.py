"""Values that switch each option of the chart, for tests that go through all of them."""

from __future__ import annotations

from typing import Any

from tests.deploy.chart import EVERYTHING

_DIGEST = "sha256:" + "0" * 64
_POOL: dict[str, Any] = {"gateway": {"platform": "triton"}, "pools": [{"name": "gpu"}]}
_RULES = {"monitoring": {"rules": {"enabled": True}}}

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "names": {"fullnameOverride": "avatars", "commonLabels": {"team": "video"}},
    "registry and digests": {
        "images": {
            "registry": "registry.example.com/video",
            "pullSecrets": ["pull"],
            "gateway": {"digest": _DIGEST},
        }
    },
    "model from a claim": {
        "model": {"source": {"type": "pvc", "pvc": {"claimName": "models", "subPath": "v3"}}}
    },
    "model from an object store": {
        **_POOL,
        "model": {
            "source": {"type": "objectStore", "objectStore": {"remote": "s3:m", "secretName": "s"}}
        },
    },
    "model from an image": {
        "model": {"source": {"type": "image", "image": {"repository": "m/demo", "tag": "3"}}}
    },
    "model from an image volume": {
        "model": {
            "source": {"type": "imageVolume", "image": {"repository": "m/demo", "digest": _DIGEST}}
        }
    },
    "model exported here": {
        **_POOL,
        "model": {
            "source": {
                "type": "export",
                "export": {"args": ["--base", "/weights/b.safetensors"], "weightsClaimName": "w"},
            }
        },
    },
    "plans on a claim that is there": {**_POOL, "engineCache": {"existingClaim": "plans"}},
    "no job for plans": {**_POOL, "engineCache": {"job": {"enabled": False}}},
    "keda": {
        **_RULES,
        "gateway": {"platform": "triton", "autoscaling": {"enabled": True}},
        "pools": [{"name": "gpu", "autoscaling": {"enabled": True}}],
        "autoscaling": {"kind": "keda"},
    },
    "redis that is there": {"redis": {"mode": "existing", "existing": {"secretName": "redis"}}},
    "redis with a secret": {"redis": {"mode": "bundled", "bundled": {"existingSecret": "redis"}}},
    "tls by secret": {
        "gateway": {"tls": {"enabled": True, "secretName": "tls"}},
        "test": {"secretName": "test"},
    },
    "tls with clients' certificates": {
        "gateway": {
            "tls": {"enabled": True, "secretName": "tls", "requireClientCertificate": True}
        },
        "test": {"enabled": False},
    },
    "route without envoy": {
        "route": {
            "enabled": True,
            "parentRefs": [{"name": "public"}],
            "envoyGateway": {"enabled": False},
        }
    },
    "load balancer": {"gateway": {"service": {"type": "LoadBalancer", "port": 443}}},
    "little": {
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
        "test": {"enabled": False},
        "gateway": {"podDisruptionBudget": {"enabled": False}, "topologySpread": False},
    },
    "placement": {
        "gateway": {
            "platform": "triton",
            "nodeSelector": {"pool": "cpu"},
            "priorityClassName": "high",
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"a": "b"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
        },
        "pools": [{"name": "gpu", "gpuProducts": ["NVIDIA-L4"], "podAnnotations": {"a": "b"}}],
    },
}
