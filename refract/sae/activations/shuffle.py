"""Mix activations that come straight from a model, in a bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refract.errors import RefractError


class ShuffleBuffer:
    """Rows go in as they come and out in a random order, each exactly once.

    The buffer is filled; then each batch is drawn at random from all rows in it, and as many new rows take the places
    that became free. Nothing is moved but the batch, and no memory is allocated but the buffer and the batches. A row
    waits rows / batch steps on average, and the number of steps falls off geometrically, so that neighbours are spread
    over several times that many batches.

    The buffer lies on the device of the first rows. The order follows from ``seed`` and the stream of rows alone, and
    not from the pieces in which they come.
    """

    def __init__(self, rows: int, *, seed: int) -> None:
        if rows < 1:
            raise RefractError(f"A shuffle buffer of {rows} rows.", "Give it a thousand rows or more.")
        self.rows, self.seed = rows, seed

    def batches(
        self, source: Iterable[Float[Tensor, "row *shape"]], batch: int, *, drop_last: bool = False
    ) -> Iterator[Float[Tensor, "batch *shape"]]:
        """All rows of ``source`` in batches; the last one may be smaller, unless ``drop_last`` says to leave it out.

        Raises ``RefractError`` if the buffer is smaller than two batches, and for rows of differing shapes.
        """
        if batch < 1 or self.rows < 2 * batch:
            raise RefractError(
                f"A buffer of {self.rows:,} rows cannot mix batches of {batch:,}.",
                "Make the buffer at least twice as large as a batch; 16 times and more mixes well.",
            )
        return self._batches(_Rows(source), batch, drop_last)

    def _batches(self, source: _Rows, batch: int, drop_last: bool) -> Iterator[Tensor]:
        random = np.random.default_rng(self.seed)
        shape, dtype, device = source.kind()
        buffer = torch.empty(self.rows, *shape, dtype=dtype, device=device)
        filled = source.read_into(buffer, torch.arange(self.rows, device=device))
        while filled >= batch or (filled and not drop_last):
            drawn = torch.from_numpy(random.choice(filled, min(batch, filled), replace=False)).to(device)
            yield buffer[drawn]
            new = source.read_into(buffer, drawn)
            if new < len(drawn):  # the source has ended: close the gaps with rows from the end
                gaps = drawn[new:]
                filled -= len(gaps)
                left = torch.arange(filled, filled + len(gaps), device=device)
                buffer[gaps[gaps < filled]] = buffer[left[~torch.isin(left, gaps)]]


class _Rows:
    """A stream of rows that can be read in pieces of any size."""

    def __init__(self, source: Iterable[Tensor]) -> None:
        self._source = iter(source)
        self._rest = torch.empty(0)

    def _more(self) -> bool:
        """Have some rows at hand, unless there are none left."""
        while len(self._rest) == 0:
            rest = next(self._source, None)
            if rest is None:
                return False
            self._rest = rest.detach()
        return True

    def kind(self) -> tuple[torch.Size, torch.dtype, torch.device]:
        """Shape, type and device of the rows."""
        if not self._more():
            raise RefractError("There are no rows to mix.", "A generator can be read only once; make a new one.")
        return self._rest.shape[1:], self._rest.dtype, self._rest.device

    def read_into(self, buffer: Tensor, places: Tensor) -> int:
        """Read a row into each of the places, in order; how many there were."""
        done = 0
        while done < len(places) and self._more():
            if self._rest.shape[1:] != buffer.shape[1:]:
                raise RefractError(
                    f"Rows of shape {list(self._rest.shape[1:])} came after rows of shape {list(buffer.shape[1:])}.",
                    "Mix rows of one kind only.",
                )
            some = self._rest[: len(places) - done]
            buffer[places[done : done + len(some)]] = some.to(buffer)
            self._rest = self._rest[len(some) :]
            done += len(some)
        return done
