"""For each alert: series that let it fire and clear again, as promtool reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

GATEWAY = 'namespace="avatars",job="mirrorme-gateway"'
TRITON = 'namespace="avatars",job="mirrorme-triton"'


@dataclass(frozen=True)
class AlertCase:
    """Values a minute from time zero on; `a+bxn` is a, a+b, ... n times."""

    alert: str
    series: dict[str, str]
    fires_min: int
    clears_min: int
    summary: str
    severity: str = "warning"
    labels: dict[str, str] = field(default_factory=dict)
    quiet_min: int = 0
    """Before it fires, the alert is silent at this minute."""


def gateway(metric: str, **labels: str) -> str:
    return _series(metric, GATEWAY, labels)


def triton(metric: str, **labels: str) -> str:
    return _series(metric, TRITON, labels)


def _series(metric: str, selector: str, labels: dict[str, str]) -> str:
    pairs = [f'{name}="{value}"' for name, value in labels.items()]
    return f"{metric}{{{','.join([selector, *pairs])}}}"


POD = {"pod": "gateway-1"}
GATEWAY_LABELS = {"job": "mirrorme-gateway", **POD}

CASES = [
    AlertCase(
        "MirrorMeGatewayDown",
        {gateway("up", pod="a"): "1x10 0x10 1x20", gateway("up", pod="b"): "1x10 0x10 1x20"},
        14,
        25,
        "No gateway answers.",
        "critical",
        quiet_min=10,
    ),
    AlertCase(
        "MirrorMeGatewayNotReady",
        {gateway("mirrorme_ready", **POD): "1x10 0x10 1x20"},
        18,
        25,
        "Gateway gateway-1 takes no sessions: it drains, or its engines do not answer.",
        labels=GATEWAY_LABELS,
        quiet_min=13,
    ),
    AlertCase(
        "MirrorMeCapacityShort",
        {
            gateway("mirrorme_sessions_active", pod="a"): "4x10 8x10 2x20",
            gateway("mirrorme_sessions_active", pod="b"): "4x10 7x10 2x20",
            gateway("mirrorme_sessions_capacity", pod="a"): "8x40",
            gateway("mirrorme_sessions_capacity", pod="b"): "8x40",
        },
        18,
        25,
        "93.75% of all places for sessions are taken.",
        quiet_min=13,
    ),
    AlertCase(
        "MirrorMeSessionsRefused",
        {
            gateway(
                "mirrorme_errors_total",
                rpc="StreamAnimate",
                status="RESOURCE_EXHAUSTED",
                reason="SESSIONS_FULL",
            ): "0x10 0+12x10 120x20"
        },
        16,
        26,
        "Sessions are refused for want of places.",
        "critical",
        quiet_min=10,
    ),
    AlertCase(
        "MirrorMeSessionsFailing",
        {
            gateway("mirrorme_sessions_total", outcome="completed"): "0+9x60",
            gateway("mirrorme_sessions_total", outcome="failed"): "0x5 0+1x20 20x40",
        },
        24,
        45,
        "10% of sessions end with a failure of ours.",
        "critical",
        quiet_min=5,
    ),
    AlertCase(
        "MirrorMeDeadlineMisses",
        {
            gateway("mirrorme_frames_sent_total", encoding="h264"): "0+1000x60",
            gateway("mirrorme_deadline_misses_total"): "0x5 0+20x20 400x40",
        },
        20,
        40,
        "2% of frames leave a frame's time too late.",
        quiet_min=5,
    ),
    AlertCase(
        "MirrorMeFirstFrameSlow",
        {
            gateway("mirrorme_first_frame_seconds_bucket", le="1"): "0+100x5 500x20 500+100x40",
            gateway("mirrorme_first_frame_seconds_bucket", le="2"): "0+100x65",
            gateway("mirrorme_first_frame_seconds_bucket", le="+Inf"): "0+100x65",
        },
        24,
        40,
        "The first frame takes 1.95s at the 95th percentile.",
        quiet_min=10,
    ),
    AlertCase(
        "MirrorMeBargeInSlow",
        {
            gateway("mirrorme_barge_in_seconds_bucket", le="0.2"): "0+10x5 50x25 50+10x40",
            gateway("mirrorme_barge_in_seconds_bucket", le="0.4"): "0+10x70",
            gateway("mirrorme_barge_in_seconds_bucket", le="+Inf"): "0+10x70",
        },
        28,
        60,
        "After an interrupt stale frames are sent for 398ms at the 99th percentile.",
        quiet_min=10,
    ),
    AlertCase(
        "MirrorMeQualityLowered",
        {
            gateway("mirrorme_degradations_total", level="fewer_steps"): "0x5 0+6x25 150x40",
            gateway("mirrorme_degradations_total", level="none"): "0x5 0+6x25 150x40",
        },
        28,
        50,
        "Sessions give up quality or frames again and again to stay on time.",
        quiet_min=10,
    ),
    AlertCase(
        "MirrorMeEngineErrors",
        {
            gateway("mirrorme_engine_calls_total", engine="decoder", outcome="ok"): "0+95x60",
            gateway(
                "mirrorme_engine_calls_total", engine="decoder", outcome="fault"
            ): "0x5 0+5x20 100x40",
        },
        20,
        40,
        "5% of calls of decoder fail.",
        labels={"engine": "decoder"},
        quiet_min=5,
    ),
    AlertCase(
        "MirrorMeMixedWeights",
        {
            gateway("mirrorme_build_info", weights="old", trained="true", pod="a"): "1x90 _x90",
            gateway("mirrorme_build_info", weights="new", trained="true", pod="b"): "1x180",
        },
        70,
        100,
        "Gateways serve 2 sets of weights: a roll-out is stuck.",
        quiet_min=50,
    ),
    AlertCase(
        "MirrorMeUntrainedModel",
        {
            gateway("mirrorme_build_info", weights="x", trained="false", pod="a"): "1x20 _x40",
            gateway("mirrorme_build_info", weights="y", trained="true", pod="b"): "1x60",
        },
        10,
        30,
        "A model with random weights is served: its video looks like no one.",
    ),
    AlertCase(
        "MirrorMeStoreDown",
        {gateway("mirrorme_store_up", store="redis", **POD): "1x5 0x10 1x20"},
        10,
        20,
        "Gateway gateway-1 does not reach the session store: its sessions would not survive it.",
        labels={**GATEWAY_LABELS, "store": "redis"},
        quiet_min=6,
    ),
    AlertCase(
        "MirrorMeCertificateExpires",
        # promtool's clock starts at 0: seven days and half an hour are left.
        {gateway("mirrorme_certificate_expiry_timestamp_seconds", **POD): "606600x100 8640000x50"},
        95,
        120,
        "The certificate of gateway gateway-1 expires in 6d 22h 55m 0s.",
        "critical",
        labels=GATEWAY_LABELS,
        quiet_min=85,
    ),
    AlertCase(
        "MirrorMeCertificateRefused",
        {gateway("mirrorme_certificate_reloads_total", outcome="failed", **POD): "0x10 1x60"},
        14,
        40,
        "Gateway gateway-1 cannot use its new certificate and keeps the old one.",
        labels={**GATEWAY_LABELS, "outcome": "failed"},
        quiet_min=9,
    ),
    AlertCase(
        "MirrorMeGatewayFiles",
        {
            gateway("process_open_fds", **POD): "100x5 900x20 100x20",
            gateway("process_max_fds", **POD): "1024x45",
        },
        20,
        30,
        "Gateway gateway-1 has 87.89% of the connections and files open that it may.",
        labels=GATEWAY_LABELS,
        quiet_min=5,
    ),
    AlertCase(
        "MirrorMeGatewayMemory",
        # Of 2 GiB.
        {
            gateway(
                "process_resident_memory_bytes", **POD
            ): "1000000000x5 1932735283x20 1000000000x20"
        },
        20,
        30,
        "Gateway gateway-1 uses 90% of its memory's limit.",
        labels=GATEWAY_LABELS,
        quiet_min=5,
    ),
    AlertCase(
        "MirrorMeTritonDown",
        {triton("up", pod="a", pool="l4"): "1x10 _x10 1x20"},
        19,
        30,
        "No Triton server answers.",
        "critical",
        labels={"job": "mirrorme-triton"},
        quiet_min=10,
    ),
    AlertCase(
        "MirrorMeTritonTakenOut",
        {
            gateway("mirrorme_triton_serving", endpoint="10.0.0.7:8001", pod="a"): "1x5 0x15 1x20",
            gateway("mirrorme_triton_serving", endpoint="10.0.0.7:8001", pod="b"): "1x5 0x15 0x20",
        },
        15,
        25,
        "No gateway gives calls to server 10.0.0.7:8001.",
        labels={"endpoint": "10.0.0.7:8001"},
        quiet_min=8,
    ),
    AlertCase(
        "MirrorMePortraitDecoders",
        {gateway("mirrorme_portrait_decoder_ends_total", reason="cpu"): "0x5 0+1x15 15x60"},
        21,
        60,
        "Decoders of portraits were ended 15 times in 15 minutes, cpu.",
        labels={"reason": "cpu"},
        quiet_min=6,
    ),
    AlertCase(
        "MirrorMeTritonUnsteady",
        {gateway("mirrorme_triton_ejections_total", endpoint="10.0.0.7:8001"): "0x5 0+1x15 15x60"},
        21,
        60,
        "Server 10.0.0.7:8001 was taken out 15 times in 15 minutes.",
        labels={"endpoint": "10.0.0.7:8001"},
        quiet_min=6,
    ),
    AlertCase(
        "MirrorMeTritonQueueing",
        {
            triton("nv_inference_queue_duration_us", pool="l4", model="denoiser"): (
                "0x5 0+3000x20 60000x40"
            ),
            triton("nv_inference_compute_infer_duration_us", pool="l4", model="denoiser"): (
                "0+1000x65"
            ),
        },
        20,
        35,
        "In pool l4 calls wait 3 times as long as they run.",
        labels={"pool": "l4"},
        quiet_min=5,
    ),
    AlertCase(
        "MirrorMeTritonFailures",
        {
            triton(
                "nv_inference_request_failure", pool="l4", model="decoder", reason="BACKEND"
            ): "0x5 0+60x20 1200x40",
            triton(
                "nv_inference_request_failure", pool="l4", model="decoder", reason="CANCELED"
            ): "0+60x65",
        },
        20,
        40,
        "Pool l4: decoder fails, BACKEND.",
        labels={"pool": "l4", "model": "decoder", "reason": "BACKEND"},
        quiet_min=5,
    ),
]
