"""What the steps of the demo share: a memory, questions to it, and the story so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.page import Answer, Step
from recollect.evaluation.pictures import Pictures
from recollect.readout.voting import VoteRule
from recollect.types import Explanation, Floats, Ids, Mask

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

LINE_WIDTH = 92


@dataclass(frozen=True, slots=True)
class Taught:
    """Encoded pictures of the training folder.

    Attributes:
        keys: float32 ``(rows, dim)``.
        labels: Object array ``(rows,)`` of str.
        sources: Where each came from.
        files: Bytes of each file.
    """

    keys: Floats
    labels: NDArray[Any]
    sources: list[str]
    files: list[bytes]

    def take(self, which: Ids) -> Taught:
        """Some of the rows, in this order."""
        return Taught(
            self.keys[which],
            self.labels[which],
            [self.sources[at] for at in which],
            [self.files[at] for at in which],
        )


class Story:
    """The memory, the questions to it, and what was told so far."""

    def __init__(
        self,
        memory: Memory,
        classifier: MemoryClassifier,
        pictures: Pictures,
        echo: Callable[[str], object],
    ) -> None:
        self.memory, self.classifier = memory, classifier
        self.pictures, self.echo = pictures, echo
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}
        self.taught: Taught
        self.queries: Floats
        self.truth: NDArray[Any]
        self.files: list[str]
        self.late: str
        self.explained: tuple[bytes, Explanation, dict[int, bytes]]

    @classmethod
    def begin(
        cls,
        uri: Path,
        pictures: Pictures,
        encoder: Encoder,
        echo: Callable[[str], object],
    ) -> Self:
        """Make the memory and encode the pictures; nothing is taught yet."""
        from recollect.encoders import encode_all
        from recollect.heads.visual_memory import MemoryClassifier
        from recollect.memory.memory import Memory
        from recollect.memory.sources import read_folder

        memory = Memory.create(uri, dim=encoder.dim, encoder=encoder)
        story = cls(memory, MemoryClassifier(memory=memory), pictures, echo)
        begun = time.perf_counter()
        teach, ask = read_folder(pictures.teach), read_folder(pictures.ask)
        keys = encode_all(encoder, teach.inputs).keys
        story.queries = encode_all(encoder, ask.inputs).keys
        files = [Path(path).read_bytes() for path in teach.inputs]
        story.taught = Taught(keys, np.array(teach.labels, object), teach.sources, files)
        story.truth, story.files = np.array(ask.labels, object), list(ask.inputs)
        # A rule, not a choice: the first class by name is the one that comes later.
        story.late = str(min(story.taught.labels))
        story.facts["encode_seconds"] = round(time.perf_counter() - begun, 2)
        return story

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.memory.close()

    @property
    def old(self) -> Mask:
        """Which questions are about the classes that were taught first."""
        return np.asarray(self.truth != self.late, bool)

    @property
    def rule(self) -> VoteRule:
        """The vote that answers."""
        asked = self.classifier
        return VoteRule(asked.vote, asked.alpha, asked.temperature, asked.sharpness)

    def tell(
        self,
        title: str,
        text: str,
        facts: Mapping[str, Any],
        *answers: Answer,
        items: Sequence[str] = (),
    ) -> None:
        """Say what a step did, and keep it for the page and the figures.

        Args:
            title: A few words.
            text: Paragraphs, a blank line between them, with facts in braces.
            facts: What the step measured; the facts of earlier steps may be told too.
            answers: Answers to show on the page.
            items: Lines that follow the first paragraph.
        """
        self.facts |= facts
        first, *others = [" ".join(part.split()) for part in text.strip().split("\n\n")]
        told = [part.format_map(self.facts) for part in (first, *others)]
        lines = (told[0], *items, *told[1:])
        self.steps.append(Step(title, lines, answers))
        self.echo("")
        self.echo(f"{len(self.steps)}  {title}")
        for line in lines:
            margin = "     " if line in items else "   "
            for part in wrap(line, LINE_WIDTH):
                self.echo(margin + part)

    def accuracy(self, which: Mask) -> float:
        """Accuracy on some of the questions, now."""
        return metrics.accuracy(self.truth[which], self.classifier.predict(self.queries[which]))

    def why(self, query: int) -> Explanation:
        """Explain the answer to one question."""
        [explanation] = self.classifier.explain(self.queries[query : query + 1])
        return explanation

    def answer(self, query: int, why: Explanation) -> Answer:
        """Put an explanation beside its pictures."""
        words = f"Asked: {self.name(query)}, in truth '{self.truth[query]}'."
        return Answer(words, Path(self.files[query]).read_bytes(), why, self.shown(why))

    def shown(self, why: Explanation) -> dict[int, bytes]:
        """Pictures of the rows behind an answer, from the memory."""
        found = {row.id: self.memory.thumbnail(row.id) for row in why.evidence}
        return {row: picture for row, picture in found.items() if picture is not None}

    def label_of(self, row: int) -> Any:
        """The label that a row has now."""
        return self.memory.rows([row]).values[0]

    def name(self, query: int) -> str:
        """Short name of the picture that was asked about."""
        path = Path(self.files[query])
        return "/".join(path.parts[-3:])
