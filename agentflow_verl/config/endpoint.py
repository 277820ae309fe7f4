"""One OpenAI-compatible endpoint of ``agentflow.endpoints``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from agentflow_verl.config.base import ConfigModel, Count, Seconds, Temperature, Url


class EndpointConfig(ConfigModel):
    """Where a model answers, and how it is asked."""

    base_url: Url
    """Up to and including ``/v1``."""
    model: str
    further_urls: tuple[Url, ...] = ()
    """More servers of the same model."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    concurrency: Count = 64
    """Requests in flight per process, over all URLs."""
    timeout_s: Seconds = 120.0
    """For one attempt, in seconds."""
    retries: int = Field(3, ge=0, strict=True)
    """Further attempts, for faults of the endpoint only."""
    temperature: Temperature = 0.0
    max_tokens: Count = 1024
    """Longest reply, in tokens. Sent as ``max_completion_tokens`` to an endpoint that refuses the
    older name.
    """
    chat_template_kwargs: dict[str, Any] = {}
    """Further arguments of the server's chat template, such as ``enable_thinking: false``."""
    extra_body: dict[str, Any] = {}
    """Further fields of each request, as they are; they overrule the others. A field that is null
    is left out.
    """
    structured: bool = True
    """Send a reply's JSON schema where the caller has one. A server that refuses it is asked
    without.
    """
    seed: int | None = None
    """With it, each call samples with a seed derived from this, its trajectory and its prompt."""

    @field_validator("extra_body")
    @classmethod
    def _check_extra_body(cls, extra_body: dict[str, Any]) -> dict[str, Any]:
        # A stream or several choices would be answers that the client does not read.
        fixed = sorted({"model", "messages", "stream", "n"} & set(extra_body))
        if fixed:
            raise ValueError(f"{fixed[0]!r} is set by agentflow and cannot be replaced")
        return extra_body

    @property
    def sampling_temperature(self) -> float | None:
        """The one that is sent; None leaves it to the server."""
        temperature: float | None = self.extra_body.get("temperature", self.temperature)
        return temperature

    @property
    def urls(self) -> tuple[str, ...]:
        """All servers of the model."""
        return (self.base_url, *self.further_urls)

    @model_validator(mode="after")
    def _check_urls(self) -> EndpointConfig:
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("further_urls: a URL is listed twice")
        return self
