"""The requests of a batch, made by threads of synchronous code."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from causalrn_client.batch import Batch, ResultT
from causalrn_client.errors import CausalRNError


def run_batch(batch: Batch[ResultT], send: Callable[[int], ResultT]) -> list[ResultT]:
    """Makes all requests of a batch, as many at a time as it allows.

    An interrupt, and any error that is not a `CausalRNError`, waits for those under way.

    Args:
        batch: To be run, once.
        send: Makes the request of a place, in one of the threads.

    Raises:
        BatchError: Some failed.
    """
    with ThreadPoolExecutor(batch.workers, "causalrn-batch") as pool:
        under_way: dict[Future[ResultT], int] = {}
        while True:
            while len(under_way) < batch.workers and (place := batch.take()) is not None:
                under_way[pool.submit(send, place)] = place
            if not under_way:
                return batch.results()
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                place = under_way.pop(future)
                try:
                    batch.put(place, future.result())
                except CausalRNError as error:
                    batch.put(place, error)
