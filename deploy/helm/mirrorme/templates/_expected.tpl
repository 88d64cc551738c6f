{{/* What autoscaling reads, as PromQL; the recording rules give the same under names. */}}

{{/* Selects the series of this release's gateways or servers. Argument: dict root component. */}}
{{- define "mirrorme.series" -}}
{{ printf "namespace=%q,job=%q" .root.Release.Namespace (printf "%s-%s" (include "mirrorme.fullname" .root) .component) }}
{{- end -}}

{{- define "mirrorme.activeSessions" -}}
sum(mirrorme_sessions_active{{ printf "{%s}" (include "mirrorme.series" (dict "root" . "component" "gateway")) }})
{{- end -}}

{{/* Sessions that will be there when a pod that is started now serves; never fewer than now.

The trend of five minutes is known two and a half minutes late. One of less than a tenth is noise, for which
targetUtilization leaves room. */}}
{{- define "mirrorme.expectedSessions" -}}
{{- $recorded := printf "mirrorme:sessions_active:sum{namespace=%q,release=%q}" .Release.Namespace (include "mirrorme.fullname" .) -}}
(predict_linear({{ $recorded }}[5m], {{ add (int .Values.autoscaling.leadSeconds) 150 }}) > 1.1 * {{ $recorded }}) or {{ $recorded }}
{{- end -}}

{{/* How many gateways the expected sessions and the spare would fill. */}}
{{- define "mirrorme.gatewayNeed" -}}
{{- $labels := printf "{namespace=%q,release=%q}" .Release.Namespace (include "mirrorme.fullname" .) -}}
(mirrorme:sessions_expected:sum{{ $labels }} + {{ .Values.gateway.autoscaling.spareSessions }}) / mirrorme:sessions_capacity:avg{{ $labels }}
{{- end -}}

{{/* How many servers of a pool its part of the expected sessions would fill, and its spare. Argument: dict root pool. */}}
{{- define "mirrorme.poolNeed" -}}
{{- $labels := printf "{namespace=%q,release=%q}" .root.Release.Namespace (include "mirrorme.fullname" .root) -}}
mirrorme:sessions_expected:sum{{ $labels }} * {{ .pool.share }} / {{ .pool.streamsPerReplica }} + {{ mulf .pool.autoscaling.spareReplicas .pool.autoscaling.targetUtilization }}
{{- end -}}

{{/* The need, or more: pods go only while those that stay have scaleDown.headroom over it, so that noise does not
take a pod and ask for it again. Where those that run have less to spare, they are all wanted.

The surge of a roll-out is not counted: it lasts less than five minutes. Argument: dict root need running target,
the middle two selectors. */}}
{{- define "mirrorme.heldLoad" -}}
{{- $roomy := printf "%v * %s" (addf 1 .root.Values.autoscaling.scaleDown.headroom) .need -}}
{{- $held := printf "%v * min_over_time(%s[5m])" .target .running -}}
({{ $roomy }} < {{ $held }}) or ({{ $held }} > {{ .need }}) or {{ .need }}
{{- end -}}

{{/* Time that calls wait in a server for each second that it computes. */}}
{{- define "mirrorme.queueRatio" -}}
{{- $series := include "mirrorme.series" (dict "root" . "component" "triton") -}}
sum by (pool) (rate(nv_inference_queue_duration_us{{ printf "{%s}" $series }}[2m]))
  / sum by (pool) (rate(nv_inference_compute_infer_duration_us{{ printf "{%s}" $series }}[2m]))
{{- end -}}

{{/* A quantity of Kubernetes, such as 700m. */}}
{{- define "mirrorme.milli" -}}{{ printf "%.0fm" (mulf . 1000) }}{{- end -}}
