{{/* The gateway's settings as environment variables; tests compare the names with ServiceConfig. */}}

{{- define "mirrorme.gatewayEnv" -}}
{{- $gateway := .Values.gateway -}}
- {name: MIRRORME_ENGINES, value: {{ printf "/models/%s" .Values.model.preset | quote }}}
- {name: MIRRORME_PLATFORM, value: {{ $gateway.platform }}}
{{- if include "mirrorme.usesTriton" . }}
- {name: MIRRORME_TRITON_ENDPOINTS, value: {{ printf "dns:///%s.%s.svc.%s:8001" (include "mirrorme.triton" .) .Release.Namespace .Values.clusterDomain | quote }}}
# Servers in other pods share no memory.
- {name: MIRRORME_TRITON_SHARED_MEMORY_BYTES, value: "0"}
{{- end }}
- {name: MIRRORME_HOST, value: 0.0.0.0}
- {name: MIRRORME_PORT, value: "50051"}
- {name: MIRRORME_METRICS_PORT, value: "9464"}
# Plaintext health for probes, which speak no TLS.
- {name: MIRRORME_HEALTH_PORT, value: "50052"}
{{- if $gateway.tls.enabled }}
- {name: MIRRORME_TLS_CERTIFICATE, value: /secrets/tls/tls.crt}
- {name: MIRRORME_TLS_KEY, value: /secrets/tls/tls.key}
{{- if $gateway.tls.requireClientCertificate }}
- {name: MIRRORME_TLS_CLIENT_CA, value: /secrets/tls/ca.crt}
{{- with $gateway.tls.clientNames }}
- {name: MIRRORME_TLS_CLIENT_NAMES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- if $gateway.auth.tokens.secretName }}
- {name: MIRRORME_TOKENS, value: {{ printf "/secrets/tokens/%s" $gateway.auth.tokens.key }}}
{{- end }}
{{- with $gateway.auth.jwt }}
{{- if .secretName }}
- {name: MIRRORME_JWT_KEYS, value: {{ printf "/secrets/jwt/%s" .key }}}
- {name: MIRRORME_JWT_AUDIENCE, value: {{ .audience | quote }}}
- {name: MIRRORME_JWT_ISSUER, value: {{ .issuer | quote }}}
{{- end }}
{{- end }}
{{- if $gateway.auth.consent.secretName }}
- {name: MIRRORME_CONSENT_KEYS, value: {{ printf "/secrets/consent/%s" $gateway.auth.consent.key }}}
{{- end }}
{{- if eq .Values.redis.mode "existing" }}
- {name: MIRRORME_STORE_URL, valueFrom: {secretKeyRef: {name: {{ .Values.redis.existing.secretName }}, key: {{ .Values.redis.existing.key }}}}}
{{- else if eq .Values.redis.mode "bundled" }}
- {name: REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: {{ include "mirrorme.redisSecret" . }}, key: password}}}
- {name: MIRRORME_STORE_URL, value: {{ printf "redis://:$(REDIS_PASSWORD)@%s.%s.svc.%s:6379/0" (include "mirrorme.redis" .) .Release.Namespace .Values.clusterDomain | quote }}}
{{- end }}
- {name: MIRRORME_DRAIN_S, value: {{ $gateway.drainSeconds | quote }}}
{{- range $key, $value := $gateway.settings }}
- {name: MIRRORME_{{ $key | snakecase | upper }}, value: {{ include "mirrorme.scalar" $value | quote }}}
{{- end }}
{{- end -}}

{{/* The Secrets whose files the gateway reads, by folder, as JSON. */}}
{{- define "mirrorme.secretFolders" -}}
{{- $folders := dict -}}
{{- with .Values.gateway -}}
{{- if .tls.enabled -}}{{- $_ := set $folders "tls" .tls.secretName -}}{{- end -}}
{{- with .auth.tokens.secretName -}}{{- $_ := set $folders "tokens" . -}}{{- end -}}
{{- with .auth.consent.secretName -}}{{- $_ := set $folders "consent" . -}}{{- end -}}
{{- with .auth.jwt.secretName -}}{{- $_ := set $folders "jwt" . -}}{{- end -}}
{{- end -}}
{{- toJson $folders -}}
{{- end -}}

{{/* A value as text; numbers of values files are floats, and large ones would get an exponent. */}}
{{- define "mirrorme.scalar" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}
