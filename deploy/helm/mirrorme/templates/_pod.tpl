{{/* What pods have in common. */}}

{{/* Argument: dict root user. */}}
{{- define "mirrorme.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
serviceAccountName: {{ include "mirrorme.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "mirrorme.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Of containers that only copy or wait. */}}
{{- define "mirrorme.smallResources" -}}
resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 512Mi}}
{{- end -}}

{{/* Argument: dict root component labels. */}}
{{- define "mirrorme.topologySpread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "mirrorme.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.component }}
        {{- with $.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- end }}
{{- end -}}

{{/* Argument: a pod's own placement: nodeSelector, tolerations, affinity, priorityClassName. */}}
{{- define "mirrorme.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Argument: dict preset probe handler. */}}
{{- define "mirrorme.probe" -}}
{{ toYaml .handler }}
periodSeconds: {{ .probe.periodSeconds }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
failureThreshold: {{ .probe.failureThreshold }}
{{- end -}}
