"""Who reads the journal beside the metrics: the access log, and traces where the environment wants them."""

import sys
import time
from collections.abc import Mapping
from typing import Final

from tokenfleet.errors import InvalidSettings
from tokenfleet.router.reporting import tracing
from tokenfleet.router.reporting.access_log import AccessLog
from tokenfleet.router.reporting.outlet import Outlet
from tokenfleet.router.reporting.tracing import Tracing
from tokenfleet.router.shared import Shared

_CLOSE_SECONDS: Final = 2.0


class Reporting:
    """Of one process."""

    def __init__(self, shared: Shared, *, environment: Mapping[str, str]) -> None:
        self._tracing: Tracing | None = None
        self._outlet = Outlet(sys.stdout.fileno())
        self._log = AccessLog(self._outlet, shared.deadlines, wanted=lambda: shared.access_log, clock=time.time)
        shared.journal.add(self._log.ended)
        if tracing.wanted(environment):
            try:
                self._tracing = Tracing(tracing.otlp())
            except ImportError as error:
                raise InvalidSettings(
                    f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed ({error}). "
                    "Install tokenfleet[tracing], or unset it."
                ) from error
            shared.journal.add(self._tracing.ended)

    def close(self) -> None:
        """Let go of what waits still, at the process's end: this waits for it, a moment at most."""
        self._log.flush()
        self._outlet.close(seconds=_CLOSE_SECONDS)
        if self._tracing is not None:
            self._tracing.close(seconds=_CLOSE_SECONDS)
