"""Settings that every profile shares. The broker and the result backend follow the worker's own `redis_url`."""

# A message that no worker acknowledges for this long is delivered again (Redis brokers only): above the longest task,
# retries included.
broker_transport_options = {"visibility_timeout": 3600}

result_expires = 24 * 3600

worker_send_task_events = True
task_send_sent_event = True
