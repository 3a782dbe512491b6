"""MessageFetcher messages from a Redis broker and settling them: many per round trip, none halfway."""
