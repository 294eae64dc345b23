{{/* The chart's name, as labels carry it. */}}
{{- define "tokenfleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of every object of the release: the release's, with the chart's name unless it is in there already. */}}
{{- define "tokenfleet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tokenfleet.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the controller's pods: never changes between versions. */}}
{{- define "tokenfleet.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tokenfleet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* On every object. The chart's own win over the user's. */}}
{{- define "tokenfleet.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "tokenfleet.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "tokenfleet"
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml (merge $labels .Values.commonLabels) -}}
{{- end -}}

{{/* metadata of an object: pass (dict "root" $ "name" NAME), and "labels" or "annotations" of its own where it has some. */}}
{{- define "tokenfleet.metadata" -}}
name: {{ .name }}
labels:
  {{- toYaml (merge (include "tokenfleet.labels" .root | fromYaml) (default dict .labels)) | nindent 2 }}
{{- with merge (deepCopy (default dict .annotations)) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tokenfleet.serviceAccountName" -}}
{{- default (ternary (include "tokenfleet.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Of the controller, and so of the routers. */}}
{{- define "tokenfleet.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether autoscalers of others ask the controller that leads. */}}
{{- define "tokenfleet.serves" -}}
{{- if or .Values.autoscaling.externalMetrics.enabled .Values.autoscaling.keda.enabled }}true{{ end -}}
{{- end -}}

{{- define "tokenfleet.externalMetricsName" -}}
{{ include "tokenfleet.fullname" . }}-external-metrics
{{- end -}}

{{- define "tokenfleet.externalMetricsSecret" -}}
{{ default (include "tokenfleet.externalMetricsName" .) .Values.autoscaling.externalMetrics.tls.secretName }}
{{- end -}}

{{/* What the controller may do where it watches. */}}
{{- define "tokenfleet.rules" -}}
# The API server lets nobody grant more than they hold: `get` here, and on pods, is what routers are given.
- apiGroups: [tokenfleet.dev]
  resources: [llmdeployments, llmrouters]
  verbs: [get, list, watch]
- apiGroups: [tokenfleet.dev]
  resources: [llmdeployments/status, llmrouters/status]
  verbs: [patch]
# Children name their LLMDeployment or LLMRouter as the owner that their deletion blocks; some clusters ask for this right then.
- apiGroups: [tokenfleet.dev]
  resources: [llmdeployments/finalizers, llmrouters/finalizers]
  verbs: [update]
{{- range $group, $resources := include "tokenfleet.children" . | fromYaml }}
- apiGroups: [{{ $group | quote }}]
  resources: [{{ join ", " $resources }}]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
# Goodbyes: a pod that drains is marked by an annotation, one that routers use by a condition.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
# How many GPUs the namespace may have is asked before more replicas are started.
- apiGroups: [""]
  resources: [resourcequotas]
  verbs: [list]
{{- if and .Values.rbac.nodes (not .Values.watchNamespaces) }}
# Nodes that are about to be taken away say so by a taint or an annotation; their engines are replaced before.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
{{- end }}
{{- if .Values.rbac.podLogs }}
# The last lines of the container that fetches a model say how far it is, which status.download shows; those of the one that
# inspects it say what it is. No other log is read.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
{{- if .Values.autoscaling.keda.enabled }}
# ScaledObjects are not watched: their kind may not be there.
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, create, patch, delete]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
# The watch proves that it lives by the renewals of the leader's Lease, and spans all namespaces in one.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [tokenfleet-controller]
  verbs: [list, watch]
{{- end -}}

{{/* In its own namespace where that is not among the watched ones: the watches span it for the Lease, nothing there is written. */}}
{{- define "tokenfleet.watchRules" -}}
- apiGroups: [tokenfleet.dev]
  resources: [llmdeployments, llmrouters]
  verbs: [list, watch]
{{- range $group, $resources := include "tokenfleet.children" . | fromYaml }}
- apiGroups: [{{ $group | quote }}]
  resources: [{{ join ", " $resources }}]
  verbs: [list, watch]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end -}}

{{/* The kinds of the children of LLMDeployments and LLMRouters, by API group. */}}
{{- define "tokenfleet.children" -}}
"": [serviceaccounts, services]
apps: [deployments]
autoscaling: [horizontalpodautoscalers]
batch: [jobs]
networking.k8s.io: [networkpolicies]
policy: [poddisruptionbudgets]
rbac.authorization.k8s.io: [rolebindings, roles]
{{- end -}}
