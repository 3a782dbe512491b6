"""Ordinary tasks that live in the worker beside the embedding tasks."""

from __future__ import annotations

import gc
import os
import sys
import time

import psutil
from redis import Redis

from legit_embedding import process as legit_process
from legit_embedding.celery import app
from legit_embedding.config import get_settings


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=2)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(acks_late=True)
def fail(kind):
    errors = {"value": ValueError("a bad value"), "memory": MemoryError("too much"), "exit": SystemExit(3)}
    raise errors[kind]


@app.task
def noop():
    return None


@app.task
def instances(class_name):
    """How many objects of a class, by name, live in the worker's process."""
    gc.unfreeze()  # what was there when the worker started
    gc.collect()
    return sum(type(each).__name__ == class_name for each in gc.get_objects())


@app.task
def uncollected(class_name):
    """How many objects of a class, by name, there are before Python looks for cycles."""
    return sum(type(each).__name__ == class_name for each in gc.get_objects())


@app.task
def resident_bytes():
    gc.collect()
    return psutil.Process().memory_info().rss


@app.task
def process():
    return {"pid": os.getpid(), "python": sys.version}


@app.task
def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return "done"


@app.task
def sleep(seconds):
    time.sleep(seconds)


@app.task
def hold(key, name):
    """Note that it has begun, and end when the key is set."""
    redis = Redis.from_url(get_settings().redis_url)
    redis.rpush(f"{key}:begun", name)
    while not redis.exists(key):
        time.sleep(0.02)


@app.task
def end_the_writer():
    """As a fault of its thread would."""
    legit_process.current().writer.close()


@app.task
def total_dim(receipts):
    return sum(receipt["dim"] for receipt in receipts)


@app.task
def note(word):
    Redis.from_url(get_settings().redis_url).sadd("noted", word)


@app.task
def has_module(name):
    return name in sys.modules
