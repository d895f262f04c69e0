{{- define "reviewloop.name" -}}
{{- if contains "reviewloop" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-reviewloop" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "reviewloop.selector" -}}
app.kubernetes.io/name: reviewloop
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "reviewloop.labels" -}}
{{ include "reviewloop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "reviewloop.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "reviewloop.account" -}}
{{ .Values.serviceAccount.name | default (include "reviewloop.name" .) }}
{{- end -}}

{{/* The settings file. */}}
{{- define "reviewloop.toml" -}}
{{ .Values.settings | toToml }}
{{- end -}}

{{/* What the pods of all components have. Arguments: root, values of the component. */}}
{{- define "reviewloop.pod" -}}
serviceAccountName: {{ include "reviewloop.account" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What all containers have. Arguments: root, the user of the database. */}}
{{- define "reviewloop.container" -}}
image: {{ include "reviewloop.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: settings, mountPath: /etc/reviewloop, readOnly: true}
  - {name: secrets, mountPath: /run/secrets/reviewloop, readOnly: true}
  - {name: cache, mountPath: /var/cache/reviewloop}
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* The environment of all containers. Arguments: root, user of the database. */}}
{{- define "reviewloop.environment" -}}
- {name: REVIEWLOOP_CONFIG, value: /etc/reviewloop/reviewloop.toml}
- {name: REVIEWLOOP_SECRETS, value: /run/secrets/reviewloop}
- name: REVIEWLOOP_DATABASE__URL
  value: {{ printf "postgresql://%s@%s/%s%s" .user .root.Values.database.host .root.Values.database.name (ternary (printf "?%s" .root.Values.database.parameters) "" (ne .root.Values.database.parameters "")) | quote }}
{{- end -}}

{{/* The volumes of all pods. Arguments: root; role: whose password; settings: the name of the ConfigMap; claim: of the cache. */}}
{{- define "reviewloop.volumes" -}}
- name: settings
  configMap: {name: {{ .settings }}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .root.Values.database.passwordSecret }}
          items:
            - {key: {{ index .root.Values.database.passwordKeys .role }}, path: reviewloop_database__password}
      {{- range .root.Values.secretFiles }}
      - secret:
          name: {{ .secret }}
          items:
            - {key: {{ .key }}, path: {{ .variable }}}
      {{- end }}
- name: cache
  {{- if .claim }}
  persistentVolumeClaim: {claimName: {{ .claim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .root.Values.cache.sizeLimit }}}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{/* Resources with GPUs added. Arguments: the values of the component. */}}
{{- define "reviewloop.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $limits := merge (dict .gpuResource (int .gpus)) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}
