"""Compares kv on three nodes with redis-server, ZooKeeper and etcd: ROUNDS KV CLIENTS [WITHOUT...].

Runs inside benches/raw/cluster, on its first node. All of them keep their data in memory (in a file
system in memory if they require files), the load comes from the first node, and they take turns in
each round.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time

# Operation, number of connections, and requests in flight per connection.
LOADS = [("set", 50, 1), ("set", 50, 16), ("set", 500, 1), ("get", 50, 1), ("get", 50, 16)]
# Number of requests for redis-benchmark, per request in flight.
COUNT = 20_000
SECONDS = 2
HOME = "/run/cluster/kv"
NODES = [1, 2, 3]


def address(node):
    return f"10.77.0.{node}"


def on(node, command, log, **more):
    """Starts a program on a node."""
    with open(f"{HOME}/{log}", "ab") as out:
        return subprocess.Popen(["ip", "netns", "exec", f"node{node}", *command],
                                stdout=out, stderr=out, **more)


def is_open(node, port):
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((address(node), port)) == 0


def wait_for(what, holds):
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what} is not there; see {HOME}")
        time.sleep(0.1)


def redis_benchmark(host, port, what, connections, pipeline):
    run = subprocess.run(
        ["redis-benchmark", "-h", host, "-p", str(port), "-t", what, "-d", "64", "-r", "1000",
         "-n", str(COUNT * pipeline), "-c", str(connections), "-P", str(pipeline), "--csv"],
        check=True, capture_output=True, text=True)
    row = run.stdout.strip().splitlines()[-1].replace('"', "").split(",")
    # "test","rps","avg","min","p50","p95","p99","max"
    return float(row[1]), float(row[4]), float(row[6])


class Redis:
    name = "redis-server alone"
    program = "redis-server"

    def start(self, _):
        on(1, ["redis-server", "--bind", address(1), "--port", "6379", "--save", "",
               "--appendonly", "no", "--protected-mode", "no"], "redis")
        wait_for(self.name, lambda: is_open(1, 6379))

    def measure(self, what, connections, pipeline):
        return redis_benchmark(address(1), 6379, what, connections, pipeline)


class Kv:
    name = "kv"
    program = None

    def start(self, programs):
        for node in NODES:
            on(node, [programs[0], "serve", "--id", str(node), "--voters", "1,2,3", "--engine",
                      "corosync", "--listen", f"{address(node)}:7001", "--allow-remote"],
               f"kv{node}")
        wait_for(self.name, lambda: all(is_open(node, 7001) for node in NODES))
        ask = ["redis-cli", "-h", address(1), "-p", "7001", "SET", "a", "b"]
        wait_for("a sequencer", lambda: "OK" in subprocess.run(
            ask, capture_output=True, text=True, timeout=60).stdout)

    def measure(self, what, connections, pipeline):
        return redis_benchmark(address(1), 7001, what, connections, pipeline)


class ZooKeeper:
    name = "ZooKeeper"
    program = "/usr/share/java/zookeeper.jar"

    def start(self, programs):
        self.clients = programs[1]
        jars = ":".join(f"/usr/share/java/{jar}" for jar in os.listdir("/usr/share/java")
                        if jar.endswith(".jar"))
        for node in NODES:
            home = f"{HOME}/zookeeper{node}"
            os.makedirs(home)
            with open(f"{home}/myid", "w") as out:
                out.write(f"{node}\n")
            with open(f"{home}/zoo.cfg", "w") as out:
                out.write("tickTime=2000\ninitLimit=10\nsyncLimit=5\nclientPort=2181\n"
                          "maxClientCnxns=0\nadmin.enableServer=false\nforceSync=no\n"
                          f"dataDir={home}\n4lw.commands.whitelist=*\n")
                out.writelines(f"server.{n}={address(n)}:2888:3888\n" for n in NODES)
            on(node, ["java", "-Xmx512m", "-cp", f"/etc/zookeeper/conf:{jars}",
                      "-Dzookeeper.forceSync=no", "-Dzookeeper.globalOutstandingLimit=20000",
                      "org.apache.zookeeper.server.quorum.QuorumPeerMain", f"{home}/zoo.cfg"],
               f"zookeeper{node}.log")
        wait_for(self.name, self.leads)

    def leads(self):
        for node in NODES:
            try:
                with socket.create_connection((address(node), 2181), 1) as one:
                    one.sendall(b"mntr")
                    if b"server_state\tleader" in one.makefile("rb").read():
                        self.leader = node
                        return True
            except OSError:
                pass
        return False

    def measure(self, what, connections, pipeline):
        return clients(self.clients, "zookeeper", what, lambda: address(self.leader), 2181,
                       connections, pipeline, self.leads)


class Etcd:
    name = "etcd, by its JSON gateway"
    program = "etcd"

    def start(self, programs):
        self.clients = programs[1]
        peers = ",".join(f"n{n}=http://{address(n)}:2380" for n in NODES)
        for node in NODES:
            own = address(node)
            on(node, ["etcd", "--name", f"n{node}", "--data-dir", f"{HOME}/etcd{node}",
                      "--listen-peer-urls", f"http://{own}:2380",
                      "--initial-advertise-peer-urls", f"http://{own}:2380",
                      "--listen-client-urls", f"http://{own}:2379",
                      "--advertise-client-urls", f"http://{own}:2379",
                      "--initial-cluster", peers, "--log-level", "error"], f"etcd{node}.log")
        wait_for(self.name, lambda: all(is_open(node, 2379) for node in NODES))
        time.sleep(3)

    def measure(self, what, connections, pipeline):
        return clients(self.clients, "etcd", what, lambda: address(1), 2379, connections,
                       pipeline, lambda: is_open(1, 2379))


def clients(program, which, what, host, port, connections, pipeline, is_back):
    for _ in range(5):
        run = subprocess.run([program, which, what, f"{host()}:{port}", str(connections),
                              str(pipeline), str(SECONDS)], capture_output=True, text=True)
        if run.returncode == 0:
            return tuple(float(number) for number in run.stdout.split())
        # On a busy machine they sometimes elect a new leader and close connections.
        print(f"  {which}, once more: {run.stderr.strip()}", file=sys.stderr)
        time.sleep(1)
        wait_for(which, is_back)
    sys.exit(f"{which} fails again and again")


def main():
    rounds, programs, without = int(sys.argv[1]), sys.argv[2:4], sys.argv[4:]
    os.makedirs(HOME)
    there = [one for one in (Kv(), Redis(), ZooKeeper(), Etcd())
             if type(one).__name__.lower() not in without and
             (one.program is None or shutil.which(one.program) or os.path.exists(one.program))]
    for one in there:
        one.start(programs)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {rounds} rounds, 64 bytes")
    for what, connections, pipeline in LOADS:
        found = {one.name: [] for one in there}
        for turn in range(rounds):
            first = turn % len(there)
            for one in there[first:] + there[:first]:
                found[one.name].append(one.measure(what, connections, pipeline))
        print(f"{what}, {connections} connections, {pipeline} under way on each:")
        for name, all_found in found.items():
            rate, half, most = (statistics.median(column) for column in zip(*all_found))
            line = f"  {name:26} {rate:9.0f}/s, p50 {half:7.2f} ms, p99 {most:7.2f} ms"
            if name != "kv":
                ratios = sorted(mine[0] / theirs[0]
                                for mine, theirs in zip(found["kv"], all_found))
                line += (f"; kv to it {statistics.median(ratios):.2f}"
                         f" ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            print(line, flush=True)


main()
