{{/* The exported engines, at /models in every pod that needs them, and how they come there. */}}

{{- define "mirrorme.modelImage" -}}
{{- $source := .Values.model.source.image -}}
{{- include "mirrorme.image" (dict "root" . "image" (ternary $source .Values.images.gateway (ne $source.repository ""))) -}}
{{- end -}}

{{- define "mirrorme.modelClaim" -}}
{{- if eq .Values.model.source.type "export" -}}
{{ include "mirrorme.fullname" . }}-model
{{- else -}}
{{ .Values.model.source.pvc.claimName }}
{{- end -}}
{{- end -}}

{{- define "mirrorme.modelVolume" -}}
- name: models
  {{- if eq .Values.model.source.type "imageVolume" }}
  image:
    reference: {{ include "mirrorme.modelImage" . }}
    pullPolicy: {{ .Values.model.source.image.pullPolicy }}
  {{- else if has .Values.model.source.type (list "pvc" "export") }}
  persistentVolumeClaim:
    claimName: {{ include "mirrorme.modelClaim" . }}
    readOnly: true
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end -}}

{{- define "mirrorme.modelMount" -}}
- name: models
  mountPath: /models
  readOnly: true
  {{- if and (eq .Values.model.source.type "pvc") .Values.model.source.pvc.subPath }}
  subPath: {{ .Values.model.source.pvc.subPath }}
  {{- end }}
{{- end -}}

{{/* Init containers that fill the volume, or wait until it is filled. */}}
{{- define "mirrorme.modelInit" -}}
{{- $preset := .Values.model.preset -}}
{{- if eq .Values.model.source.type "image" }}
- name: model
  image: {{ include "mirrorme.modelImage" . }}
  imagePullPolicy: {{ .Values.model.source.image.pullPolicy }}
  command: [cp, --recursive, --no-target-directory, {{ printf "%s/%s" .Values.model.source.image.path $preset | quote }}, {{ printf "/target/%s" $preset | quote }}]
  {{- include "mirrorme.containerSecurity" . | nindent 2 }}
  {{- include "mirrorme.smallResources" . | nindent 2 }}
  volumeMounts: [{name: models, mountPath: /target}]
{{- else if eq .Values.model.source.type "objectStore" }}
- name: model
  image: {{ include "mirrorme.image" (dict "root" . "image" .Values.images.rclone) }}
  imagePullPolicy: {{ .Values.images.rclone.pullPolicy }}
  args: [copy, --stats-one-line, --stats=10s, --retries=5, {{ printf "%s/%s" (trimSuffix "/" .Values.model.source.objectStore.remote) $preset | quote }}, {{ printf "/target/%s" $preset | quote }}]
  env:
    - {name: RCLONE_CONFIG, value: /tmp/rclone.conf}
    - {name: RCLONE_CACHE_DIR, value: /tmp/cache}
  {{- with .Values.model.source.objectStore.secretName }}
  envFrom: [{secretRef: {name: {{ . }}}}]
  {{- end }}
  {{- include "mirrorme.containerSecurity" . | nindent 2 }}
  {{- include "mirrorme.smallResources" . | nindent 2 }}
  volumeMounts:
    - {name: models, mountPath: /target}
    - {name: tmp, mountPath: /tmp}
{{- else if eq .Values.model.source.type "export" }}
- name: model
  image: {{ include "mirrorme.image" (dict "root" . "image" .Values.images.gateway) }}
  imagePullPolicy: {{ .Values.images.gateway.pullPolicy }}
  # The export appears whole or not at all.
  command: [sh, -c, {{ printf "until [ -f /models/%s/manifest.json ]; do sleep 5; done" $preset | quote }}]
  {{- include "mirrorme.containerSecurity" . | nindent 2 }}
  {{- include "mirrorme.smallResources" . | nindent 2 }}
  volumeMounts:
    {{- include "mirrorme.modelMount" . | nindent 4 }}
{{- end }}
{{- end -}}
