"""The app for any ASGI server: `hypercorn gateway.asgi:app`.

The same behaviour as `python -m gateway`, but slower, as everything goes through ASGI; and such a server ends in its
own order: what is under way when it stops is `run.orphaned` after the next start.
"""

from gateway import settings
from gateway.app import Gateway
from gateway.logs import configure
from pipeline.builtin import load

_settings = settings.load()
configure(format=_settings.log_format, level=_settings.log_level)
app = Gateway(_settings, load(_settings.pipelines)).app
