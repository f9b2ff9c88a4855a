"""The only place that runs git. It knows neither reviews nor delegated tasks."""
