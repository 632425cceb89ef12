/* What the `dpdk` crate calls and DPDK offers only as a static inline. This is the reviewed list: a
 * call costs about two nanoseconds, so all that is done per packet is done in Rust, and what stands
 * here is called once a burst or on the control path. */
#ifndef US_SHIM_H
#define US_SHIM_H

#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

struct us_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
};

int us_errno(void);
unsigned int us_lcore_id(void);

uint16_t us_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t us_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
int us_link_get(uint16_t port, struct us_link *link);

struct rte_mbuf *us_mbuf_alloc(struct rte_mempool *pool);
int us_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void us_mbuf_free(struct rte_mbuf *mbuf);
int us_mbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
int us_mbuf_linearise(struct rte_mbuf *mbuf);

unsigned int us_ring_enqueue(struct rte_ring *ring, void *const *objects, unsigned int count);
unsigned int us_ring_dequeue(struct rte_ring *ring, void **objects, unsigned int count);
unsigned int us_ring_count(const struct rte_ring *ring);

#endif
