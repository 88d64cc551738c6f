{{/* One autoscaler of a Deployment, by HPA or KEDA.

Argument: dict root name component scaling metrics; a metric is a dict of name, labels (of the recorded
series), query, target and type (AverageValue: of the sum; Value: as it is). */}}
{{- define "mirrorme.autoscaler" -}}
{{- $scale := .root.Values.autoscaling -}}
{{- if eq $scale.kind "hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mirrorme.labels" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ .scaling.minReplicas }}
  maxReplicas: {{ .scaling.maxReplicas }}
  metrics:
    {{- range .metrics }}
    - type: External
      external:
        metric:
          name: {{ .name }}
          selector:
            matchLabels:
              {{- toYaml .labels | nindent 14 }}
        target:
          type: {{ .type }}
          {{ .type | untitle }}: {{ include "mirrorme.milli" .target }}
    {{- end }}
  behavior:
    {{- include "mirrorme.scalingBehavior" $scale | nindent 4 }}
{{- else -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mirrorme.labels" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicaCount: {{ .scaling.minReplicas }}
  maxReplicaCount: {{ .scaling.maxReplicas }}
  pollingInterval: 15
  # Without Prometheus: as many as there are, not fewer.
  fallback: {failureThreshold: 4, replicas: {{ .scaling.minReplicas }}, behavior: currentReplicasIfHigher}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- include "mirrorme.scalingBehavior" $scale | nindent 8 }}
  triggers:
    {{- range .metrics }}
    - type: prometheus
      name: {{ .name | replace "_" "-" }}
      metricType: {{ .type }}
      metadata:
        serverAddress: {{ $scale.prometheusAddress }}
        query: {{ .query | quote }}
        threshold: {{ .target | quote }}
        # No series is a fault, not a load of none.
        ignoreNullValues: {{ .ignoreNull | quote }}
    {{- end }}
{{- end -}}
{{- end -}}

{{- define "mirrorme.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: {{ .scaleUp.stabilizationSeconds }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: {{ .scaleUp.pods }}, periodSeconds: {{ .scaleUp.periodSeconds }}}
    - {type: Percent, value: {{ .scaleUp.percent }}, periodSeconds: {{ .scaleUp.periodSeconds }}}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDown.stabilizationSeconds }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: {{ .scaleDown.pods }}, periodSeconds: {{ .scaleDown.periodSeconds }}}
{{- end -}}
