/** What Node's `fetch` can be told beyond what browsers know, through the undici inside it. */

// Node's `fetch` looks its dispatcher up here, where programs can also put one of their own.
const GLOBAL = Symbol.for("undici.globalDispatcher.1");

interface Dispatcher {
  dispatch(options: { origin: unknown }, handler: unknown): boolean;
}

/**
 * Returns options for `fetch` that leave all limits to this package; none outside Node.
 *
 * Node's own limits would end an answer after five minutes without a byte.
 *
 * @param isFresh Whether to send the request on a new connection, which no server has closed as idle.
 */
export function dispatchOptions(isFresh: boolean): { dispatcher?: Dispatcher } {
  if (found() === undefined) {
    return {};
  }
  return {
    dispatcher: {
      dispatch: (options, handler) => {
        const limits = { headersTimeout: 0, bodyTimeout: 0 };
        // Connections are kept by the name of their server. Under this name, which means the same,
        // none are, because each is closed after its request.
        const fresh = isFresh ? { origin: `${options.origin}/`, reset: true } : {};
        return (found() as Dispatcher).dispatch({ ...options, ...limits, ...fresh }, handler);
      },
    },
  };
}

function found(): Dispatcher | undefined {
  return (globalThis as { [GLOBAL]?: Dispatcher })[GLOBAL];
}
