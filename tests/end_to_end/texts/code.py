import heapq


def dijkstra(graph, source):
    best, queue = {source: 0}, [(0, source)]
    while queue:
        cost, node = heapq.heappop(queue)
        if cost > best[node]:
            continue
        for other, weight in graph[node].items():
            if cost + weight < best.get(other, float("inf")):
                best[other] = cost + weight
                heapq.heappush(queue, (best[other], other))
    return best
