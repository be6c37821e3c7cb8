{{- /* The name of everything: 40 characters, so that the pods' names and those of the services stay within 63. */}}
{{- define "orlop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "orlop.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "orlop.labels" -}}
{{ include "orlop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "orlop.metadata" -}}
name: {{ include "orlop.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "orlop.labels" . | nindent 2 }}
{{- end -}}

{{- define "orlop.peers" -}}
{{ include "orlop.fullname" . }}-peers
{{- end -}}

{{- /* A server's own name in DNS, which the certificates are for. */}}
{{- define "orlop.host" -}}
$(POD_NAME).{{ include "orlop.peers" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "orlop.client-scheme" -}}
{{ ternary "https" "http" .Values.tls.client.enabled }}
{{- end -}}

{{- define "orlop.peer-scheme" -}}
{{ ternary "https" "http" .Values.tls.peer.enabled }}
{{- end -}}

{{- define "orlop.secret" -}}
{{ default (printf "%s-%s-tls" (include "orlop.fullname" .root) .of) (index .root.Values.tls .of).secretName }}
{{- end -}}
