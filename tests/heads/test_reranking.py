"""A second opinion over the rows that were found; the endpoint is a server on this machine."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from recollect import MemoryClassifier
from recollect.encoders import PixelEncoder
from recollect.errors import DimensionMismatch, InvalidParameter
from recollect.heads.reranking import (
    PROMPT,
    Function,
    NoOpinion,
    Question,
    Retrieved,
    TextScores,
    VisionLanguageEndpoint,
    rerank,
)

WHITE, BLACK = np.full((4, 4, 3), 255, np.uint8), np.full((4, 4, 3), 9, np.uint8)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def pets():
    """Two cats and a dog near the query, by rank 1/2, 1/3 and 1/4."""
    head = MemoryClassifier(k=3, encoder=PixelEncoder(size=2))
    keys = PixelEncoder(size=2).encode([WHITE, WHITE, WHITE])
    head.fit([WHITE] * 3, ["cat", "dog", "cat"], sources=["a.png", "b.png", None])
    assert keys.shape == (3, head.memory_.dim)
    return head


def asked(shares, key=(1.0, 0.0)):
    rows = tuple(Retrieved(row, label, 0.9, 0.5) for row, label in enumerate(shares))
    return Question(None, np.array(key, np.float32), rows, shares)


# -- the protocol ------------------------------------------------------------------------------


def test_any_callable_sees_the_rows_and_decides(pets):
    """Nearest first, with labels, shares of the vote and sources."""
    seen = []

    def call(question):
        seen.append(question)
        return {"dog": 3.0, "cat": 1.0}

    [found] = rerank(pets, [WHITE], Function(call))

    assert (found.first, found.prediction, found.problem) == ("cat", "dog", None)
    assert found.scores == {"dog": 0.75, "cat": 0.25}
    assert [(row.id, row.label, row.source) for row in seen[0].neighbors] == [
        (0, "cat", "a.png"), (1, "dog", "b.png"), (2, "cat", None),
    ]  # fmt: skip
    assert list(seen[0].shares) == ["cat", "dog"]
    assert sum(seen[0].shares.values()) == pytest.approx(1.0)


def test_trust_mixes_both_opinions(pets):
    """The vote says 9/13 cat; half of that and half of nothing is 9/26."""
    [found] = rerank(pets, [WHITE], Function(lambda _: {"dog": 1.0}), trust=0.5)

    assert found.scores["cat"] == pytest.approx(9 / 26)
    assert found.prediction == "dog"


def test_without_an_opinion_the_vote_decides_and_says_why(pets):
    """A service that is down must not stop the answers."""

    def call(_):
        raise NoOpinion("it is down")

    [found] = rerank(pets, [WHITE], Function(call))

    assert (found.prediction, found.problem) == ("cat", "it is down")
    with pytest.raises(NoOpinion):
        rerank(pets, [WHITE], Function(call), on_error="raise")


def test_labels_that_were_not_found_are_left_out(pets):
    """A model may name anything; only what the memory found can be answered."""
    [found] = rerank(pets, [WHITE], Function(lambda _: {"wombat": 9.0, "dog": 1.0}))
    [nothing] = rerank(pets, [WHITE], Function(lambda _: {"wombat": 9.0}))

    assert found.scores == {"dog": 1.0, "cat": 0.0}
    assert nothing.problem == "it scored none of the labels that were found"


@pytest.mark.parametrize("scores", [{"cat": -1.0}, {"cat": float("nan")}, ["cat"]])
def test_scores_that_are_none_are_refused(pets, scores):
    """That is a mistake in the re-ranker, not a missing opinion."""
    with pytest.raises(InvalidParameter):
        rerank(pets, [WHITE], Function(lambda _: scores))


def test_options_out_of_range_are_refused(pets):
    """Before anything is asked."""
    with pytest.raises(InvalidParameter):
        rerank(pets, [WHITE], Function(lambda _: {}), trust=2)
    with pytest.raises(InvalidParameter):
        rerank(pets, [WHITE], len)


# -- texts -------------------------------------------------------------------------------------


def test_a_label_scores_by_the_cosine_of_its_text():
    """Softmax of the scaled cosines 1 and 0."""
    texts = TextScores([[2, 0], [0, 3], [1, 1]], ["cat", "dog", "fish"], scale=np.log(3))

    scores = texts.score(asked({"cat": 0.5, "dog": 0.5}, key=(5.0, 0.0)))

    assert scores == pytest.approx({"cat": 0.75, "dog": 0.25})


def test_the_center_is_taken_away_before_texts_are_compared():
    """(3, 4) around (3, 0) points straight up."""
    texts = TextScores([[1, 0], [0, 1]], ["cat", "dog"], scale=50.0, center=[3, 0])

    assert texts.score(asked({"cat": 0.5, "dog": 0.5}, key=(3.0, 4.0)))["dog"] > 0.99


def test_texts_that_cannot_fit_are_refused():
    """Another space has no cosine with this one."""
    texts = TextScores([[1, 0]], ["cat"])
    with pytest.raises(DimensionMismatch):
        texts.score(asked({"cat": 1.0}, key=(1.0, 0.0, 0.0)))
    with pytest.raises(DimensionMismatch):
        TextScores([[1, 0]], ["cat", "dog"])
    with pytest.raises(NoOpinion):
        texts.score(asked({"dog": 1.0}))


# -- the endpoint ------------------------------------------------------------------------------


class Stub:
    """A server that gives prepared replies in turn, the last one for ever, and keeps requests."""

    def __init__(self, replies):
        self.replies, self.requests = list(replies), []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.requests.append((self.path, dict(self.headers), json.loads(body)))
                status, headers, content, delay = stub.replies[0]
                if len(stub.replies) > 1:
                    stub.replies.pop(0)
                time.sleep(delay)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve():
    stubs = []

    def start(*replies):
        stubs.append(Stub(replies))
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.close()


def reply(content=None, status=200, headers=None, delay=0.0, **message):
    choice = {"message": {"role": "assistant", "content": content, **message}}
    body = json.dumps({"choices": [choice]}).encode()
    return status, headers or {}, body, delay


GOOD = reply('{"scores": {"dog": 0.9, "cat": 0.1}}')


def endpoint(stub, **options):
    waits = []
    model = VisionLanguageEndpoint(
        stub.address, "a-model", key="a secret", sleep=waits.append, **options
    )
    return model, waits


def test_the_model_is_shown_query_candidates_and_rows(pets, serve):
    """The prompt, the query's picture, then label, similarity and picture of each row."""
    stub = serve(GOOD)
    keys = pets.encoder.encode([WHITE, WHITE])
    pets.memory_.replace(keys, ["cat", "dog"], thumbnails=[png(BLACK), None])

    [found] = rerank(pets, [WHITE], endpoint(stub)[0])

    assert (found.prediction, found.scores["dog"]) == ("dog", 0.9)
    path, headers, body = stub.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer a secret"
    assert (body["model"], body["temperature"]) == ("a-model", 0)
    prompt, title, query, *rows = body["messages"][0]["content"]
    assert prompt["text"] == PROMPT.format(labels='["cat", "dog"]')
    assert title["text"] == "Query:"
    assert query["image_url"]["url"].startswith("data:image/png;base64,")
    assert rows[0]["text"].startswith('Retrieved image 1: label "cat", similarity 1.0')
    assert base64.b64decode(rows[1]["image_url"]["url"].partition(",")[2]) == png(BLACK)
    assert rows[2]["text"].startswith('Retrieved image 2: label "dog"')
    assert len(rows) == 3


@pytest.mark.parametrize(
    "content",
    ['```json\n{"scores": {"dog": 1}}\n```', 'I think {"scores": {"dog": 0.4}}.'],
)
def test_scores_are_found_between_other_words(pets, serve, content):
    """Models like to wrap them."""
    [found] = rerank(pets, [WHITE], endpoint(serve(reply(content)))[0])

    assert found.prediction == "dog"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again_after_a_pause(pets, serve, status):
    """Doubling pauses, so that it can recover."""
    busy = reply("later", status=status)
    model, waits = endpoint(serve(busy, busy, GOOD), pause=0.5)

    [found] = rerank(pets, [WHITE], model)

    assert (found.prediction, waits) == ("dog", [0.5, 1.0])


def test_the_endpoint_may_say_how_long_to_wait(pets, serve):
    """But not for hours."""
    model, waits = endpoint(serve(
        reply(status=429, headers={"Retry-After": "7"}),
        reply(status=429, headers={"Retry-After": "86400"}), GOOD,
    ))  # fmt: skip

    rerank(pets, [WHITE], model)

    assert waits == [7.0, 60.0]


@pytest.mark.parametrize(
    ("answer", "problem", "requests"),
    [
        (reply(status=401), "status 401", 1),
        (reply(status=503), "status 503", 3),
        (reply(status=302, headers={"Location": "http://127.0.0.1:9/"}), "status 302", 1),
        (reply(None, refusal="I cannot help with that."), "refused: I cannot help", 1),
        (reply("It is a dog."), "did not answer as asked", 1),
        (reply('{"scores": "dog"}'), "did not answer as asked", 1),
        (reply('{"scores": {"dog": "sure"}}'), "no number", 1),
        (reply('{"scores": {"dog": 1e999}}'), "no number", 1),
        (reply('{"scores": {"wombat": 1}}'), "none of the labels", 1),
        (reply(None), "no text", 1),
        ((200, {}, b"<html>", 0.0), "no JSON", 1),
        ((200, {}, b"[" * 100_000, 0.0), "no JSON", 1),
        ((200, {}, b"[]", 0.0), "no JSON object", 1),
        ((200, {}, b'{"choices": []}', 0.0), "no message", 1),
        ((200, {}, b'{"choices": [7]}', 0.0), "no message", 1),
        ((200, {}, b" " * (1 << 21), 0.0), "longer than", 1),
    ],
)
def test_whatever_else_comes_back_the_vote_decides(pets, serve, answer, problem, requests):
    """Refusals, pages of a proxy, words instead of numbers: each is told, none is an answer."""
    stub = serve(answer)

    [found] = rerank(pets, [WHITE], endpoint(stub)[0])

    assert found.prediction == "cat"
    assert problem in found.problem
    assert len(stub.requests) == requests
    assert "a secret" not in found.problem


def test_a_reply_that_does_not_come_is_waited_for_only_so_long(pets, serve):
    """Each attempt has its own time-out."""
    stub = serve(reply("late", delay=0.5))

    [found] = rerank(pets, [WHITE], endpoint(stub, timeout=0.05, retries=1)[0])

    assert found.problem == "no reply within 0.05 seconds"
    assert len(stub.requests) == 2


@pytest.fixture
def dripping():
    """A server that sends one header after the other, and never an end of them."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(10_000):
                if stop.wait(0.01):
                    return
                try:
                    self.wfile.write(b"X-%d: 1\r\n" % (number % 50))
                except OSError:
                    return

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.timeout(20)
def test_headers_that_come_for_ever_are_waited_for_only_so_long(pets, dripping):
    """Before, each byte gave them the whole time-out again, and the answer was another one."""
    model = VisionLanguageEndpoint(dripping, "a-model", timeout=0.15, retries=0)

    [found] = rerank(pets, [WHITE], model)

    assert found.problem == "no reply within 0.15 seconds"


@pytest.mark.parametrize(
    "options",
    [
        {"address": "http://[broken"}, {"address": "http://host:port"}, {"address": 7},
        {"address": "http://host/é"}, {"address": f"http://{'a' * 70}/"}, {"timeout": "soon"},
        {"timeout": float("nan")}, {"timeout": float("inf")}, {"retries": 1.5}, {"pause": None},
        {"most_images": "all"}, {"model": None}, {"prompt": "{labels} {score}"},
        {"prompt": "{labels} {"}, {"prompt": "{{labels}}"}, {"prompt": None},
        {"prompt": "{labels[0]}"}, {"key": 5}, {"sleep": 5}, {"retries": True},
    ],
    ids=repr,
)  # fmt: skip
def test_an_option_that_could_only_fail_later_is_refused_at_once(options):
    """Not with an error of the socket's, in the middle of an answer."""
    with pytest.raises(InvalidParameter):
        VisionLanguageEndpoint(**{"address": "http://host/v1", "model": "a-model", **options})


@pytest.mark.parametrize("queries", [None, 3, "one text", b"one picture"])
def test_one_query_alone_is_refused(pets, queries):
    """A text would be taken for as many queries as it has letters."""
    with pytest.raises(InvalidParameter, match="several queries"):
        rerank(pets, queries, Function(lambda _: {"dog": 1.0}))


@pytest.mark.parametrize("trust", ["half", None, float("nan")])
def test_trust_that_is_no_share_is_refused(pets, trust):
    """With an error that names it."""
    with pytest.raises(InvalidParameter, match="trust"):
        rerank(pets, [WHITE], Function(lambda _: {"dog": 1.0}), trust=trust)


@pytest.mark.parametrize("score", ["much", None, 10**400])
def test_a_score_that_is_no_number_is_refused(pets, score):
    """It is the re-ranker's mistake, told in our words."""
    with pytest.raises(InvalidParameter, match="scores are out of range"):
        rerank(pets, [WHITE], Function(lambda _: {"dog": score}))


def test_an_endpoint_that_is_not_there_is_no_opinion(pets, serve):
    """The connection is refused, three times."""
    stub = serve(GOOD)
    model, waits = endpoint(stub)
    stub.server.server_close()
    stub.server.shutdown()

    [found] = rerank(pets, [WHITE], model)

    assert "the connection failed" in found.problem
    assert waits == [1.0, 2.0]


def test_features_cannot_be_shown(serve):
    """Numbers are no picture; that is a mistake of the caller's."""
    head = MemoryClassifier(k=1).fit([[1, 0], [0, 1]], ["cat", "dog"])
    stub = serve(GOOD)

    with pytest.raises(InvalidParameter, match="features cannot be shown"):
        rerank(head, np.eye(2), endpoint(stub)[0])
    assert stub.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"address": "file:///etc"}, {"address": "localhost"}, {"timeout": 0}, {"retries": -1},
        {"prompt": "What is it?"},
    ],
)  # fmt: skip
def test_an_endpoint_that_cannot_be_is_refused_when_it_is_made(options):
    """Not when the first question is asked."""
    with pytest.raises(InvalidParameter):
        VisionLanguageEndpoint(**({"address": "http://localhost", "model": "m"} | options))


@pytest.mark.parametrize("key", ["SECRET\n", " SECRET", "SECRET\u2014", ""])
def test_a_key_that_cannot_be_sent_is_refused_and_never_shown(key):
    """A line end, read from a file, is the usual mistake; the empty one is one too."""
    with pytest.raises(InvalidParameter) as refused:
        VisionLanguageEndpoint("http://localhost", "m", key=key)
    assert "CRET" not in str(refused.value)


def test_a_classifier_with_class_means_is_refused(pets):
    """They are no rows to look at; before, they were silently left out of the vote's answer."""
    pets.set_params(class_means=0.5)

    with pytest.raises(InvalidParameter, match="class means are none"):
        rerank(pets, [WHITE], Function(lambda _: {"dog": 1.0}))


def test_what_cannot_be_asked_or_cannot_ask_is_refused(pets):
    """Before, these ended in errors of Python's."""
    with pytest.raises(InvalidParameter, match="cannot be called"):
        Function(5)
    with pytest.raises(InvalidParameter, match="MemoryClassifier"):
        rerank(None, [WHITE], Function(lambda _: {"dog": 1.0}))
    with pytest.raises(InvalidParameter):
        rerank(pets, [WHITE], Function(lambda _: {"dog": 1.0}), on_error=["vote"])


def test_huge_scores_are_scores():
    """Before, their sum was infinite and every label scored 0."""
    pets = MemoryClassifier(k=2).fit([[1, 0], [0.9, 0.3]], ["cat", "dog"])

    [found] = rerank(pets, [[1, 0.1]], Function(lambda _: {"cat": 1e308, "dog": 1e308}))

    assert found.scores == {"cat": 0.5, "dog": 0.5}


def test_half_a_character_in_a_reply_becomes_a_question_mark(pets, serve):
    """JSON may hold one; before, the problem that quoted it could not be printed."""
    [found] = rerank(pets, [WHITE], endpoint(serve(reply("\ud800 no idea")))[0])

    assert found.problem.encode()
    assert "? no idea" in found.problem
