"""Fan-out: who watches which run, and how each of them gets on.

Rule 1: a connection holds a cursor for each run it watches, not a queue. Live, lagging and replaying are states of
one subscription; new, slow and returning clients take the same way.
Rule 2: an event is encoded once for each framing in use, and the same bytes go to everyone.
"""

from gateway.hub.connection import Connection
from gateway.hub.counts import Counts
from gateway.hub.hub import Hub
from gateway.hub.pacing import Pace
from gateway.hub.past import Pasts
from gateway.hub.places import Limits
from gateway.hub.subscription import Join, Subscription
from gateway.hub.topic import Topic

__all__ = ["Connection", "Counts", "Hub", "Join", "Limits", "Pace", "Pasts", "Subscription", "Topic"]
