"""Those who use a tortured service: they queue, cancel, watch and look, and note what no client should see."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.streams import parsed
from tests.torture_cluster import Cluster

CANCELLED_SHARE = 0.12
NEWS_SECONDS = 10.0
ANSWER_SECONDS = 30.0

FLATTEN = {"type": "flatten"}
OUTPUT = {"type": "dense", "units": 10, "activation": "softmax"}
HIDDEN = {"type": "dense", "units": 32, "activation": "relu"}
SPECS: dict[str, dict[str, Any]] = {
    "linear": {"network": [FLATTEN, OUTPUT], "epochs": 8, "seed": 1},
    "linear, other seed": {"network": [FLATTEN, OUTPUT], "epochs": 8, "seed": 2},
    "dropout": {"network": [FLATTEN, HIDDEN, {"type": "dropout", "rate": 0.3}, OUTPUT], "epochs": 4, "seed": 3},
    "held out": {"network": [FLATTEN, HIDDEN, OUTPUT], "epochs": 4, "seed": 4, "validation_split": 0.1},
    "shifted": {"network": [FLATTEN, OUTPUT], "epochs": 2, "seed": 5, "augmentation": {"shift": 2.0}},
}


@dataclass
class Notes:
    """What the users have seen. Every field is changed under the lock."""

    accepted: dict[str, str] = field(default_factory=dict)  # the user, by run
    cancelled: set[str] = field(default_factory=set)  # the runs whose cancelling was answered 202
    watched: dict[str, str] = field(default_factory=dict)  # what the stream of events said at last, by run
    refusals: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)  # what was waited for in vain
    unexpected: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class User:
    """Speaks to the replicas in turn, as through a load balancer, and notes what no client should see."""

    def __init__(self, cluster: Cluster, name: str, notes: Notes, draw: random.Random, stop: threading.Event) -> None:
        self.name, self._notes, self._draw, self._stop = name, notes, draw, stop
        self._urls = cluster.urls
        self._http = httpx2.Client(timeout=ANSWER_SECONDS, headers={"Authorization": f"Bearer {cluster.keys[name]}"})

    def ask(self, method: str, path: str, **body: Any) -> httpx2.Response | None:
        """None: nobody has answered."""
        try:
            response = self._http.request(method, self._draw.choice(self._urls) + path, **body)
        except httpx2.TransportError as error:
            self._note_refusal(type(error).__name__)
            if isinstance(error, httpx2.ReadTimeout):
                with self._notes.lock:
                    self._notes.unanswered.append(f"{time.strftime('%H:%M:%S')} {method} {path}")
            return None
        if response.status_code >= 500:
            self._note_refusal(str(response.status_code))
        if response.status_code >= 500 and not _is_polite(response):
            with self._notes.lock:
                said = f"{time.strftime('%H:%M:%S')} {method} {path}: {response.status_code} {response.text[:300]}"
                self._notes.unexpected.append(said)
        return response

    def insist(self, method: str, path: str, **body: Any) -> httpx2.Response | None:
        """Asks until somebody answers other than 5xx; None once the users have been told to stop."""
        while not self._stop.is_set():
            response = self.ask(method, path, **body)
            if response is not None and response.status_code < 500:
                return response
            self._stop.wait(self._draw.uniform(0.2, 0.8))
        return None

    def queue(self, names: list[str], runs: int, seconds: float) -> None:
        """So many, spread over the time; a few of them are cancelled later, the first is watched."""
        for number in range(runs):
            self._stop.wait(self._draw.uniform(0.0, 2.0 * seconds / runs))
            name = self._draw.choice(names)
            response = self.insist("POST", "/train", json=body(name))
            if response is None:
                return
            if response.status_code != 202:
                self._note_unexpected(f"POST /train: {response.status_code} {response.text[:300]}")
                continue
            run = response.json()["id"]
            with self._notes.lock:
                self._notes.accepted[run] = self.name
            if number == 0:
                threading.Thread(target=self.watch, args=(run,), daemon=True).start()
            if self._draw.random() < CANCELLED_SHARE:
                self._stop.wait(self._draw.uniform(0.0, 15.0))
                self._cancel(run)

    def watch(self, run: str) -> None:
        """Its events to their end, from one replica or another; whoever goes on behind the last one misses none."""
        last, said, draw = -1, "no end", random.Random(run)
        while said == "no end" and not self._stop.wait(0.2):
            try:
                url, headers = f"{draw.choice(self._urls)}/train/{run}/events", {"Last-Event-ID": str(last)}
                with self._http.stream("GET", url, headers=headers) as response:
                    for kind, number, data in parsed(response.iter_lines() if response.status_code == 200 else ()):
                        if kind == "end":
                            said = data["state"]
                        elif number == last + 1:
                            last = number
                        else:
                            said = f"event {number} after {last}"
            except httpx2.TransportError as error:
                self._note_refusal(type(error).__name__)
            with self._notes.lock:
                self._notes.watched[run] = said

    def look_around(self) -> None:
        """Reads whatever a page reads, all the time."""
        while not self._stop.wait(self._draw.uniform(0.1, 0.6)):
            with self._notes.lock:
                runs = list(self._notes.accepted)
            paths = ["/train?limit=50", "/models", "/evaluate", "/healthz", "/readyz", "/presets"]
            paths += [f"/train/{run}" for run in self._draw.sample(runs, min(2, len(runs)))]
            self.ask("GET", self._draw.choice(paths))
            self.ask("POST", "/predict", json={"pixels": [[0, 255, 0]] * 3})

    def who_does_not_answer_with(self, model: str) -> list[str]:
        """The replicas whose default is another one even after a while."""
        deadline = time.monotonic() + NEWS_SECONDS
        stale = set(self._urls)
        while stale and time.monotonic() < deadline:
            stale = {url for url in stale if self._default_of(url) != model}
        return sorted(stale)

    def _default_of(self, url: str) -> str | None:
        try:
            answer: dict[str, Any] = self._http.get(f"{url}/readyz").json()
        except httpx2.TransportError:
            return None
        return answer.get("model")

    def _cancel(self, run: str) -> None:
        response = self.insist("POST", f"/train/{run}/cancel")
        if response is not None and response.status_code == 202:
            with self._notes.lock:
                self._notes.cancelled.add(run)
        elif response is not None and response.status_code != 409:
            self._note_unexpected(f"POST /train/{run}/cancel: {response.status_code} {response.text[:300]}")

    def _note_refusal(self, kind: str) -> None:
        with self._notes.lock:
            self._notes.refusals[kind] += 1

    def _note_unexpected(self, what: str) -> None:
        with self._notes.lock:
            self._notes.unexpected.append(f"{time.strftime('%H:%M:%S')} {what}")


def _is_polite(response: httpx2.Response) -> bool:
    """A 503 that says when to come back."""
    return response.status_code == 503 and "retry-after" in response.headers


def body(name: str) -> dict[str, Any]:
    return {"name": name, "batch_size": 100, **SPECS[name]}
