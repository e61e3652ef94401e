{{/* The objects' name: the release's, and the chart's where the release's does not say it. */}}
{{- define "overlock.fullname" -}}
{{- $own := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) }}
{{- .Values.fullnameOverride | default $own | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* In every selector. The name is also the job of the metrics, which the alerts look for. */}}
{{- define "overlock.selectorLabels" -}}
app.kubernetes.io/name: overlock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "overlock.metadata" -}}
name: {{ include "overlock.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "overlock.labels" . | nindent 2 }}
{{- end }}

{{- define "overlock.labels" -}}
{{ include "overlock.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "overlock.variant" -}}
{{ get .Values.variants .Values.variant | toYaml }}
{{- end }}

{{- define "overlock.image" -}}
{{- $variant := include "overlock.variant" . | fromYaml }}
{{- $tag := printf "%s-%s" .Chart.AppVersion $variant.tagSuffix }}
{{- .Values.image.repository }}:{{ .Values.image.tag | default $tag }}
{{- end }}

{{/* The variables of the ConfigMap. */}}
{{- define "overlock.settings" -}}
{{- $variant := include "overlock.variant" . | fromYaml }}
{{- $settings := merge (deepCopy .Values.settings) ($variant.settings | default dict) }}
{{- if .Values.grpc.enabled }}
{{- $settings = merge $settings (dict "OVERLOCK_GRPC_PORT" "8001") }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- define "overlock.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}

{{/* A container for the published weights of each task that is served with them. */}}
{{- define "overlock.downloads" -}}
{{- $settings := include "overlock.settings" . | fromYaml }}
{{- range $task := list "classify" "segment" "detect" }}
{{- $model := printf "OVERLOCK_%s_MODEL" (upper $task) }}
{{- $published := eq (get $settings (printf "OVERLOCK_%s_WEIGHTS" (upper $task))) "pretrained" }}
{{- if and $published (not (has (get $settings $model) (list "" "off"))) }}
- name: {{ eq $task "classify" | ternary "weights" (printf "%s-weights" $task) }}
  {{- include "overlock.container" $ | nindent 2 }}
  args:
    - download
    - $({{ $model }})
  {{- with $.Values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    requests:
      cpu: "1"
      memory: 2Gi
    limits:
      memory: 2Gi
  volumeMounts:
    - name: cache
      mountPath: /var/cache/overlock
    - name: tmp
      mountPath: /tmp
{{- end }}
{{- end }}
{{- end }}

{{/* What all containers have in common. */}}
{{- define "overlock.container" -}}
image: {{ include "overlock.image" . }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
envFrom:
  - configMapRef:
      name: {{ include "overlock.fullname" . }}-settings
securityContext:
  {{- include "overlock.containerSecurityContext" . | nindent 2 }}
{{- end }}

{{/* How fast either autoscaler adds and removes pods. */}}
{{- define "overlock.scaling" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - type: Percent
      value: 100
      periodSeconds: 60
    - type: Pods
      value: 4
      periodSeconds: 60
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end }}
