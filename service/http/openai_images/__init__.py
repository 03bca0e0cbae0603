"""OpenAI's images API on the models of this server: its requests, its answers, its streams and its errors."""
