# The images of the chart: `make images REGISTRY=... PUSH=1`, or `docker buildx bake -f` this file.

variable "REGISTRY" { default = "" }
variable "TAG" { default = "0.1.0" }

group "default" { targets = ["gateway", "triton", "builder", "export"] }

function "image" {
  params = [name]
  result = [REGISTRY == "" ? "mirrorme/${name}:${TAG}" : "${REGISTRY}/mirrorme/${name}:${TAG}"]
}

target "gateway" {
  dockerfile = "deploy/docker/gateway.Dockerfile"
  tags = image("gateway")
}

target "triton" {
  dockerfile = "deploy/docker/triton.Dockerfile"
  tags = image("triton")
}

target "builder" {
  dockerfile = "deploy/docker/builder.Dockerfile"
  tags = image("builder")
}

target "export" {
  dockerfile = "deploy/docker/export.Dockerfile"
  tags = image("export")
}
