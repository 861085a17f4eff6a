{{- define "glmserve.labels" -}}
app.kubernetes.io/name: glmserve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of pods: llm-d's endpoint picker learns from the last one how to read the metrics. */}}
{{- define "glmserve.podLabels" -}}
{{ include "glmserve.labels" . }}
llm-d.ai/engine-type: glmserve
{{- end }}

{{/* One pod of a server, or of a group of pods that hold one model. */}}
{{- define "glmserve.pod" -}}
{{- if and .Values.journal.enabled .Values.journal.redis }}
{{- fail "journal.enabled gives each pod a journal of its own, journal.redis gives one to all: set one of them" }}
{{- end -}}
metadata:
  labels:
    {{- include "glmserve.podLabels" . | nindent 4 }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.drainTimeout 15 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with .Values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.model.fetch.image }}
  initContainers:
    - name: fetch
      image: {{ .Values.model.fetch.image }}
      command: {{- toYaml .Values.model.fetch.command | nindent 8 }}
      securityContext: {{- include "glmserve.confined" . | nindent 8 }}
      volumeMounts:
        - {name: models, mountPath: /models}
        - {name: tmp, mountPath: /tmp}
  {{- end }}
  containers:
    - name: glmserve
      image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - --port=8000
        - --drain-timeout={{ .Values.drainTimeout }}
        - --load-timeout={{ .Values.loadTimeout }}
        {{- with .Values.model.checkpoint }}
        - --checkpoint={{ . }}
        {{- end }}
        {{- if .Values.apiKeySecret }}
        - --api-key-file=/run/keys/keys
        {{- end }}
        {{- if .Values.publicMetrics }}
        - --public-metrics
        {{- end }}
        {{- if .Values.journal.enabled }}
        - --journal=/var/lib/glmserve
        {{- end }}
        {{- with .Values.journal.redis }}
        - --journal={{ . }}
        {{- end }}
        {{- if gt (int .Values.group.size) 1 }}
        - --executor=lws
        {{- end }}
        {{- range .Values.options }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- if gt (int .Values.group.size) 1 }}
        - name: GLMSERVE_GROUP_KEY
          valueFrom:
            secretKeyRef: {name: {{ required "group.keySecret: the secret of the group's key" .Values.group.keySecret }}, key: key}
        {{- end }}
        {{- with .Values.journal.redisSecret }}
        - name: GLMSERVE_JOURNAL_PASSWORD
          valueFrom:
            secretKeyRef: {name: {{ . }}, key: password}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: 8000}
      resources:
        {{- $resources := deepCopy .Values.resources }}
        {{- if .Values.accelerators }}
        {{- $_ := set $resources "limits" (merge (deepCopy .Values.accelerators) ($resources.limits | default dict)) }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      securityContext: {{- include "glmserve.confined" . | nindent 8 }}
      lifecycle:
        # New requests go elsewhere first; then SIGTERM drains the server.
        preStop:
          exec: {command: [sleep, {{ .Values.preStopSeconds | quote }}]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if include "glmserve.hasModels" . }}
        - {name: models, mountPath: /models, readOnly: true}
        {{- end }}
        {{- if .Values.apiKeySecret }}
        - {name: keys, mountPath: /run/keys, readOnly: true}
        {{- end }}
        {{- if .Values.journal.enabled }}
        - {name: journal, mountPath: /var/lib/glmserve}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if .Values.model.existingClaim }}
    - name: models
      persistentVolumeClaim: {claimName: {{ .Values.model.existingClaim }}, readOnly: true}
    {{- else if .Values.model.hostPath }}
    - name: models
      hostPath: {path: {{ .Values.model.hostPath }}, type: Directory}
    {{- else if .Values.model.fetch.image }}
    - name: models
      emptyDir: {sizeLimit: {{ .Values.model.fetch.size }}}
    {{- end }}
    {{- if .Values.apiKeySecret }}
    - name: keys
      secret: {secretName: {{ .Values.apiKeySecret }}, defaultMode: 0440}
    {{- end }}
{{- end }}

{{- define "glmserve.confined" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{- define "glmserve.hasModels" -}}
{{- if or .Values.model.existingClaim .Values.model.hostPath .Values.model.fetch.image }}yes{{ end }}
{{- end }}

{{/* The probes of a pod that answers clients, for the container above. */}}
{{- define "glmserve.probes" -}}
# Until the first real token: a pod that loads is not killed.
startupProbe:
  httpGet: {path: /health/started, port: http}
  periodSeconds: 2
  failureThreshold: {{ div (add .Values.loadTimeout 60) 2 }}
# The server process answers, whatever its worker does: that is replaced by the server.
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# It takes requests: not while it drains, or replaces its worker.
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 1
{{- end }}

{{/* A pod that answers clients: the one above, with probes. */}}
{{- define "glmserve.serving" -}}
{{- $pod := include "glmserve.pod" . | fromYaml }}
{{- $container := merge (index $pod.spec.containers 0) (include "glmserve.probes" . | fromYaml) }}
{{- $_ := set $pod.spec "containers" (list $container) }}
{{- toYaml $pod }}
{{- end }}
