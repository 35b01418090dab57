"""Makes the requests of a batch in tasks of asyncio."""

import asyncio
from collections.abc import Awaitable, Callable

from causalrn_client.batch import Batch, ResultT
from causalrn_client.errors import CausalRNError


async def async_run_batch(
    batch: Batch[ResultT], send: Callable[[int], Awaitable[ResultT]]
) -> list[ResultT]:
    """Makes all requests of a batch, as many at a time as it allows.

    Cancellation, and any error that is not a `CausalRNError`, stops the requests in progress.

    Args:
        batch: The batch, which can be run only once.
        send: Makes the request at a position.

    Raises:
        BatchError: Some requests failed.
    """

    async def work() -> None:
        while (place := batch.take()) is not None:
            try:
                result = await send(place)
            except CausalRNError as error:
                batch.put(place, error)
            else:
                batch.put(place, result)

    tasks = [asyncio.create_task(work()) for _ in range(batch.workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return batch.results()
