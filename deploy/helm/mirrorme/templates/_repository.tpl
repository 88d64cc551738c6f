{{/* The container that makes a pool's Triton model repository, and builds its plans if need be.

Argument: dict root pool output. */}}
{{- define "mirrorme.repositoryContainer" -}}
{{- $pool := .pool -}}
{{- $plans := eq $pool.platform "tensorrt_plan" -}}
{{- $image := ternary .root.Values.images.builder .root.Values.images.gateway $plans -}}
- name: repository
  image: {{ include "mirrorme.image" (dict "root" .root "image" $image) }}
  imagePullPolicy: {{ $image.pullPolicy }}
  command: [mirrorme-export]
  args:
    - repository
    - /models/{{ .root.Values.model.preset }}
    - --output=/repository/{{ .root.Values.model.preset }}
    - --platform={{ $pool.platform }}
    - --device={{ ternary "gpu" "cpu" (gt (int $pool.gpus) 0) }}
    - --instances={{ $pool.instances }}
    - --threads={{ $pool.threads }}
    - --max-queue-delay-us={{ int $pool.maxQueueDelayUs }}
    {{- if $plans }}
    - --cache=/plans
    - --target=tensorrt
    - --precision={{ $pool.plans.precision }}
    - --typical-batch-size={{ $pool.plans.typicalBatchSize }}
    {{- if eq $pool.plans.precision "fp8" }}
    - --calibration={{ $pool.plans.calibration }}
    {{- end }}
    {{- end }}
  {{- include "mirrorme.containerSecurity" .root | nindent 2 }}
  resources:
    {{- include "mirrorme.poolResources" $pool | nindent 4 }}
  volumeMounts:
    {{- include "mirrorme.modelMount" .root | nindent 4 }}
    - {name: repository, mountPath: /repository}
    - {name: tmp, mountPath: /tmp}
    {{- if $plans }}
    - {name: plans, mountPath: /plans}
    {{- end }}
{{- end -}}

{{/* With the pool's GPUs. */}}
{{- define "mirrorme.poolResources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $limits := merge (dict "nvidia.com/gpu" (int .gpus)) (default dict $resources.limits) -}}
{{- $resources = set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Where pods of a pool may run: its own placement, and the GPU products. */}}
{{- define "mirrorme.poolPlacement" -}}
{{- $placement := deepCopy . -}}
{{- if .gpuProducts -}}
{{- $expression := dict "key" "nvidia.com/gpu.product" "operator" "In" "values" .gpuProducts -}}
{{- $terms := list (dict "matchExpressions" (list $expression)) -}}
{{- $node := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $_ := set $placement "affinity" (mergeOverwrite (deepCopy .affinity) (dict "nodeAffinity" $node)) -}}
{{- end -}}
{{- include "mirrorme.placement" $placement -}}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Argument: dict root pool. Volumes of pods that make a repository. */}}
{{- define "mirrorme.repositoryVolumes" -}}
{{- include "mirrorme.modelVolume" .root }}
- {name: repository, emptyDir: {}}
- {name: tmp, emptyDir: {}}
{{- if eq .pool.platform "tensorrt_plan" }}
- {name: plans, persistentVolumeClaim: {claimName: {{ include "mirrorme.engineCacheClaim" .root }}}}
{{- end }}
{{- end -}}
