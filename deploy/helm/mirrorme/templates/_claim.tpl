{{/* A claim's spec. Argument: size, storageClassName, accessModes. */}}
{{- define "mirrorme.claim" -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}
