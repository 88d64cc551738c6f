{{/* Names, labels and images. */}}

{{- define "mirrorme.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mirrorme.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Argument: dict root component. */}}
{{- define "mirrorme.labels" -}}
{{ include "mirrorme.selector" .root }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods, without versions: a new chart alone restarts nothing. Argument: dict root component. */}}
{{- define "mirrorme.podLabels" -}}
{{ include "mirrorme.selector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Argument: dict root image. */}}
{{- define "mirrorme.image" -}}
{{- $registry := default .root.Values.images.registry .image.registry -}}
{{- $repository := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "mirrorme.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mirrorme.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mirrorme.gateway" -}}{{ include "mirrorme.fullname" . }}-gateway{{- end -}}
{{- define "mirrorme.triton" -}}{{ include "mirrorme.fullname" . }}-triton{{- end -}}
{{- define "mirrorme.redis" -}}{{ include "mirrorme.fullname" . }}-redis{{- end -}}

{{- define "mirrorme.redisSecret" -}}{{ default (include "mirrorme.redis" .) .Values.redis.bundled.existingSecret }}{{- end -}}

{{- define "mirrorme.usesTriton" -}}{{ if eq .Values.gateway.platform "triton" }}true{{ end }}{{- end -}}

{{/* The pools with their defaults, as JSON: include | fromJsonArray. */}}
{{- define "mirrorme.pools" -}}
{{- $pools := list -}}
{{- if include "mirrorme.usesTriton" . -}}
{{- range .Values.pools -}}
{{- $pools = append $pools (mergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy .)) -}}
{{- end -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{/* A quantity of memory such as 2Gi, in bytes. */}}
{{- define "mirrorme.bytes" -}}
{{- $units := dict "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- $unit := regexFind "[A-Za-z]+$" (toString .) -}}
{{- int64 (mulf (float64 (trimSuffix $unit (toString .))) (get $units $unit | default 1.0)) -}}
{{- end -}}

{{/* Names the claim of plans if any pool has plans. */}}
{{- define "mirrorme.engineCacheClaim" -}}
{{- default (printf "%s-plans" (include "mirrorme.fullname" .)) .Values.engineCache.existingClaim -}}
{{- end -}}
