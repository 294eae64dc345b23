"""kube-proxy with nftables: what makes the addresses of Services lead to pods, from pods and from this machine."""

from pathlib import Path

import yaml

from e2e.cluster import configuration, daemons, kubeconfigs, network, paths
from e2e.cluster.control_plane import Layout
from e2e.cluster.processes import Command, Daemon


def daemon(layout: Layout, used: network.Addresses) -> Daemon:
    directory = paths.cluster() / "config"
    kubeconfig = kubeconfigs.write(
        directory / "kube-proxy.kubeconfig", server=layout.server, authority=layout.authority, identity="kube-proxy"
    )
    config = _write_config(directory / "kube-proxy.yaml", used, kubeconfig)
    argv = (str(paths.tool("kube-proxy")), f"--config={config}")
    return daemons.own(Command("kube-proxy", argv, files=(config, kubeconfig)))


def _write_config(path: Path, used: network.Addresses, kubeconfig: Path) -> Path:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": paths.NODE_NAME,
        "mode": "nftables",
        "clusterCIDR": str(used.pods),
        "detectLocalMode": "ClusterCIDR",
        "nodePortAddresses": ["primary"],
        "healthzBindAddress": f"127.0.0.1:{paths.PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"127.0.0.1:{paths.PROXY_METRICS_PORT}",
        # Zero leaves the machine's own limits alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    }
    return configuration.write(path, yaml.safe_dump(config, sort_keys=False))
