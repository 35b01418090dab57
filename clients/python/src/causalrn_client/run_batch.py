"""Makes the requests of a batch in threads."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from causalrn_client.batch import Batch, ResultT
from causalrn_client.errors import CausalRNError


def run_batch(batch: Batch[ResultT], send: Callable[[int], ResultT]) -> list[ResultT]:
    """Makes all requests of a batch, as many at a time as it allows.

    Ctrl-C, and any error that is not a `CausalRNError`, are raised once the requests in progress
    have finished.

    Args:
        batch: The batch, which can be run only once.
        send: Makes the request at a position. Called in a thread.

    Raises:
        BatchError: Some requests failed.
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
