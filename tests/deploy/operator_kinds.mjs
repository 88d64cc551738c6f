// Reads manifests, prints what the operators' schemas say of each kind: "" if it is right.
// The packages are in the folder that is given.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "cert-manager.io": "cert-manager",
  "gateway.envoyproxy.io": "envoy-gateway",
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

const said = {};
for (const manifest of JSON.parse(readFileSync(0))) {
  const { apiVersion, kind } = manifest;
  const owner = PACKAGES[apiVersion.split("/")[0]];
  const file = `${process.argv[2]}/@kubernetes-models/${owner}/${apiVersion}/${kind}.js`;
  const models = await import(file);
  try {
    new models[kind](manifest).validate();
    said[kind] ??= "";
  } catch (error) {
    said[kind] = String(error);
  }
}
console.log(JSON.stringify(said));
