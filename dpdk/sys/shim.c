/* See shim.h. */
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "shim.h"

int us_errno(void)
{
	return rte_errno;
}

unsigned int us_lcore_id(void)
{
	return rte_lcore_id();
}

uint16_t us_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t us_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

/* The link's fields are bit fields, laid out differently from release to release. */
int us_link_get(uint16_t port, struct us_link *link)
{
	struct rte_eth_link state;
	int ret;

	memset(&state, 0, sizeof(state));
	ret = rte_eth_link_get_nowait(port, &state);
	link->speed_mbps = state.link_speed;
	link->up = state.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = state.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return ret;
}

struct rte_mbuf *us_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int us_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void us_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int us_mbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

int us_mbuf_linearise(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

unsigned int us_ring_enqueue(struct rte_ring *ring, void *const *objects, unsigned int count)
{
	return rte_ring_enqueue_burst(ring, objects, count, NULL);
}

unsigned int us_ring_dequeue(struct rte_ring *ring, void **objects, unsigned int count)
{
	return rte_ring_dequeue_burst(ring, objects, count, NULL);
}

unsigned int us_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}
