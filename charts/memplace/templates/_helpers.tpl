{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/*
Nothing, if the values have each section that the templates read. Helm's --reuse-values takes the
defaults of the chart before, too, in which sections of this one are missing. Each template has it
at its top: nobody knows which one Helm renders first.
*/}}
{{- define "memplace.complete" -}}
{{- $probes := list "probes" "probes.startup" "probes.liveness" "probes.readiness" -}}
{{- $sections := list "crds" "image" "rbac" "admissionPolicy" "tenancy" "openshift" "uninstall" "tests"
  "networkPolicy" "metrics" "metrics.tls" "podMonitor" "prometheusRule" "dashboard"
  "operator" "operator.podDisruptionBudget" "agent" "agent.shimDefault" "agent.nri" "agent.seccomp"
  "agent.appArmorProfile" -}}
{{- range $component := list "operator" "agent" -}}
{{- range concat (list "image" "serviceAccount") $probes -}}
{{- $sections = append $sections (printf "%s.%s" $component .) -}}
{{- end -}}
{{- end -}}
{{- range $section := $sections -}}
{{- $found := $.Values -}}
{{- range splitList "." $section -}}
{{- $found = get $found . -}}
{{- if not (kindIs "map" $found) -}}
{{- fail (printf "the values have no %s. Are they those of an older chart? Then use helm upgrade --reset-then-reuse-values instead of --reuse-values; it keeps your own values, too. If you set this one to null, leave it out: this chart needs all of its sections" $section) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The first part of all names: the release's, with the chart's unless it has it. */}}
{{- define "memplace.fullname" -}}
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

{{/* Labels that select pods, never to change. Call with (list . "component"). */}}
{{- define "memplace.selectorLabels" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: memplace
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object. Call with (list . "component"). */}}
{{- define "memplace.labels" -}}
{{- $top := index . 0 -}}
{{ include "memplace.selectorLabels" . }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: memplace
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" }}
{{- with $top.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
Labels of the pods of a component. Without versions: a chart that changes in nothing else
must not restart the agents. Call with (list . "component").
*/}}
{{- define "memplace.podLabels" -}}
{{- $top := index . 0 -}}
{{ include "memplace.selectorLabels" . }}
app.kubernetes.io/part-of: memplace
{{- with $top.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with (get $top.Values (index . 1) | default dict).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name of the account of a component. Call with (list . "component"). */}}
{{- define "memplace.account" -}}
{{- $top := index . 0 -}}
{{- $own := printf "%s-%s" (include "memplace.fullname" $top) (index . 1) -}}
{{- dig "serviceAccount" "name" "" (get $top.Values (index . 1) | default dict) | default $own -}}
{{- end -}}

{{/* The account of a component, if it is to be made. Call with (list . "component"). */}}
{{- define "memplace.makeAccount" -}}
{{- $account := (get (index . 0).Values (index . 1)).serviceAccount -}}
{{- if $account.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  namespace: {{ (index . 0).Release.Namespace }}
  name: {{ include "memplace.account" . }}
  labels:
    {{- include "memplace.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{- end }}
{{- end -}}

{{/* Name and labels of an object. Call with (list . "component"). */}}
{{- define "memplace.metadata" -}}
name: {{ include "memplace.fullname" (index . 0) }}-{{ index . 1 }}
labels:
  {{- include "memplace.labels" . | nindent 2 }}
{{- end -}}

{{/*
The same of an object in a namespace, and which one: `helm template` and `kubectl apply` would take
the namespace of the admin's context. Call with (list . "component").
*/}}
{{- define "memplace.namespacedMetadata" -}}
namespace: {{ (index . 0).Release.Namespace }}
{{ include "memplace.metadata" . }}
{{- end -}}

{{/* The reference of an image. Call with (list . .Values.COMPONENT.image). */}}
{{- define "memplace.image" -}}
{{- $top := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $top.Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest -}}
@{{ $image.digest }}
{{- else -}}
:{{ default $top.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{/* Image and pull policy of a container. Call as memplace.image. */}}
{{- define "memplace.containerImage" -}}
image: {{ include "memplace.image" . | quote }}
imagePullPolicy: {{ (index . 0).Values.image.pullPolicy }}
{{- end -}}

{{/* What every pod that only talks to the API server may do: nothing more. */}}
{{- define "memplace.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "memplace.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Environment of metrics by TLS. */}}
{{- define "memplace.metricsEnv" -}}
{{- with .Values.metrics.tls }}
{{- if .secretName }}
- {name: MEMPLACE_METRICS_PORT, value: "8443"}
- {name: MEMPLACE_METRICS_TLS, value: /etc/memplace/metrics}
{{- if .clientCASecretName }}
- {name: MEMPLACE_METRICS_CLIENT_CA, value: /etc/memplace/metrics/clients.crt}
{{- end }}
{{- else if .clientCASecretName }}
{{- fail "metrics.tls.clientCASecretName asks clients for a certificate, which takes TLS: set metrics.tls.secretName, too" }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The volume of metrics by TLS. Never by subPath, which would not be renewed; and optional: an agent
places memory also while its metrics wait for their certificate.
*/}}
{{- define "memplace.metricsVolume" -}}
{{- with .Values.metrics.tls -}}
name: metrics-tls
projected:
  sources:
  - secret:
      name: {{ .secretName }}
      optional: true
      items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
  {{- with .clientCASecretName }}
  - secret:
      name: {{ . }}
      optional: true
      items:
      - {key: ca.crt, path: clients.crt}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The three probes of a container. Call with .Values.COMPONENT.probes. */}}
{{- define "memplace.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  {{- toYaml .startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  {{- toYaml .liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  {{- toYaml .readiness | nindent 2 }}
{{- end -}}

{{/* Where pods may run, who goes first, and how they find names. Call with .Values.COMPONENT. */}}
{{- define "memplace.scheduling" -}}
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
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Annotations of a hook that leaves nothing behind but, of a Job that failed, its log. Call with
(list "event" weight).
*/}}
{{- define "memplace.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/*
Annotations of the account of the pre-delete hook and of its rights. Call with (list . weight).
Argo CD makes all hooks at once and looks again at the first event of one of them. A Job that its
cache does not have by then it takes for done. With the Job alone that is rare.
*/}}
{{- define "memplace.hookRight" -}}
{{- if not (index . 0).Values.uninstall.argocd -}}
annotations:
  {{- include "memplace.hook" (list "pre-delete" (index . 1)) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Role of a component that reads the agents' Leases. Call with (list . "component"). */}}
{{- define "memplace.readLeases" -}}
rules:
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [list]
{{- end -}}

{{/* RoleBinding of a component's account to its role. Call with (list . "component"). */}}
{{- define "memplace.namespacedBinding" -}}
{{ include "memplace.binding" . | replace "kind: ClusterRole" "kind: Role" }}
{{- end -}}

{{/* ClusterRoleBinding of a component's account to its role. Call with (list . "component"). */}}
{{- define "memplace.binding" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "memplace.fullname" (index . 0) }}-{{ index . 1 }}
subjects:
- kind: ServiceAccount
  name: {{ include "memplace.account" . }}
  namespace: {{ (index . 0).Release.Namespace }}
{{- end -}}
