/* What bindgen reads. Constants that DPDK spells as RTE_BIT64() macros are lost on bindgen, so those in
 * use are given a typed name here; so are the offsets of mbuf fields, which lie in anonymous unions
 * whose generated names change from release to release. */
#include <stddef.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

#include "shim.h"

static const uint64_t US_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t US_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t US_RSS_UDP = RTE_ETH_RSS_UDP;

static const uint64_t US_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t US_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t US_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t US_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t US_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;

static const uint64_t US_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t US_TX_OFFLOAD_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t US_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t US_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

static const uint64_t US_MBUF_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t US_MBUF_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t US_MBUF_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t US_MBUF_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t US_MBUF_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t US_MBUF_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t US_MBUF_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t US_MBUF_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t US_MBUF_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t US_MBUF_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t US_MBUF_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t US_MBUF_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t US_MBUF_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;

static const uint32_t US_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t US_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t US_RING_SINGLE_ENDED = RING_F_SP_ENQ | RING_F_SC_DEQ;
static const uint32_t US_RETA_GROUP_SIZE = RTE_ETH_RETA_GROUP_SIZE;
static const uint32_t US_PKTMBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint32_t US_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint16_t US_MTU_UNLIMITED = UINT16_MAX;

enum us_mbuf_layout {
	US_MBUF_SIZE = sizeof(struct rte_mbuf),
	US_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	US_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	US_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	US_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	US_MBUF_PORT = offsetof(struct rte_mbuf, port),
	US_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	US_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	US_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	US_MBUF_RSS = offsetof(struct rte_mbuf, hash.rss),
	US_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	US_MBUF_POOL = offsetof(struct rte_mbuf, pool),
	US_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	US_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
};

/* The plain Rust stores to tx_offload place l2_len and l3_len by these. */
enum us_tx_offload_layout {
	US_TX_L2_LEN_SHIFT = RTE_MBUF_L2_LEN_OFS,
	US_TX_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS,
	US_TX_L3_LEN_SHIFT = RTE_MBUF_L3_LEN_OFS,
	US_TX_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS,
};
