//! Clusters, load balancing, pools, connecting
