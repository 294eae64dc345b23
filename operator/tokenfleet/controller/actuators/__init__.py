"""What lets autoscalers of others decide: metrics for a HorizontalPodAutoscaler, and an external scaler for KEDA."""
