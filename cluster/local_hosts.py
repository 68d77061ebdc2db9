"""A grid on one machine: a head and workers as hosts of their own, to try what happens when one is lost.

    sudo python cluster/local_hosts.py up /tmp/grid --workers 2
    sudo python cluster/local_hosts.py run /tmp/grid head -- pixmix-ray run FILE --address 10.77.0.1:6379
    sudo python cluster/local_hosts.py cut /tmp/grid worker1      # its cable is out
    sudo python cluster/local_hosts.py mend /tmp/grid worker1     # and in again
    sudo python cluster/local_hosts.py kill /tmp/grid worker2     # the whole host dies at once
    sudo python cluster/local_hosts.py start /tmp/grid worker2    # and is back, empty but for its cache
    sudo python cluster/local_hosts.py down /tmp/grid

Each host has its own network, processes, shared memory, home, cache and Ray folder; all see the same files beside, as
on a shared folder. Their cables end in a switch that has no way out, so no packet leaves or enters. Needs Linux, root,
and the programs unshare, nsenter (util-linux), mount and ip (iproute2).
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

RAY = (sys.executable, "-m", "ray.scripts.scripts")
PROGRAMS = ("unshare", "nsenter", "ip", "mount")
NETWORK = "10.77.0"  # inside the namespaces alone: it may be in use outside
PORT = 6379
ATTEMPTS = 4  # Ray gives a node 30 s to come up, which it may miss on a machine that has other work
OBJECT_STORE_BYTES = 100_000_000  # the smallest that Ray is content with: data go through memory maps
PATIENCE = {
    # a host counts as lost after about 15 s instead of a minute
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}
# the first process of a host: it has nothing to do but to be there, and to leave no zombies
FIRST_PROCESS = """
set -e
mount --bind "$GRID/$NAME/ray" "$GRID/ray"
mount --bind "$GRID/etc/hosts" /etc/hosts
mount --bind "$GRID/etc/resolv.conf" /etc/resolv.conf
mount -t tmpfs tmpfs /dev/shm
hostname "$NAME"
ip link set lo up
exec "$PYTHON" -c "$REST"
"""
REST = """
import os, pathlib, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
pathlib.Path(os.environ["GRID"], os.environ["NAME"], "is_up").touch()
while True:
    signal.pause()
"""

commands = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Grid = Annotated[Path, typer.Argument(help="The grid's folder; its path must be short, for Ray's sockets lie below.")]
Name = Annotated[str, typer.Argument(help="head, worker1, worker2, ...")]


def missing() -> str | None:
    """Why hosts cannot be laid out on this machine; none if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need Linux and root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"no {', '.join(absent)} on this machine"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"namespaces are not allowed here: {tried.stderr.decode().strip()}"


@commands.command()
def up(
    grid: Grid,
    workers: Annotated[int, typer.Option(min=1, max=200)] = 2,
    cpus: Annotated[int, typer.Option(help="that each worker offers; the head offers none.")] = 1,
) -> None:
    """Lay out the hosts and start Ray on them, with a token."""
    if (reason := missing()) is not None:
        raise typer.BadParameter(reason)
    grid = grid.resolve()
    names = ["head", *(f"worker{number}" for number in range(1, workers + 1))]
    for folder in ("ray", "etc"):
        (grid / folder).mkdir(parents=True)
    grid.chmod(0o700)
    _write_secret(grid / "token", secrets.token_hex(32))
    (grid / "etc/hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{_address(n)} {n}\n" for n in names))
    (grid / "etc/resolv.conf").write_text("")  # nobody to ask: an unknown name fails at once
    switch = _first_process(["--net"], "exec sleep infinity", {})
    _inside(switch, ["ip", "link", "add", "switch", "type", "bridge"])
    _inside(switch, ["ip", "link", "set", "switch", "up"])
    _save(grid, {"switch": switch}, cpus)
    for name in names:
        _lay_out(grid, name)
    for name in names:  # one after the other: Ray gives a node's agents 15 s, and the cores are shared
        _start_ray(grid, name)
    typer.echo(f"Ray is up at {_address('head')}:{PORT}; RAY_AUTH_TOKEN_PATH={grid / 'token'}")


@commands.command()
def start(grid: Grid, name: Name) -> None:
    """Start a host that is down, or Ray on a host that has lost it."""
    grid = grid.resolve()
    if name in _pids(grid):  # a worker process may outlive its node's part of Ray, and hold its memory
        subprocess.run(command_on(grid, name, [*RAY, "stop", "--force"]), capture_output=True, check=False)
    else:
        _lay_out(grid, name)
    _start_ray(grid, name)


@commands.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, grid: Grid, name: Name) -> None:
    """Run a command on a host."""
    sys.exit(subprocess.run(command_on(grid.resolve(), name, context.args), check=False).returncode)


@commands.command()
def cut(grid: Grid, name: Name) -> None:
    """Take a host's cable out: nothing reaches it, all on it runs on."""
    _inside(_pids(grid.resolve())["switch"], ["ip", "link", "set", name, "down"])


@commands.command()
def mend(grid: Grid, name: Name) -> None:
    """Put the cable in again. A host that Ray had given up has stopped its part of Ray: `start` it."""
    _inside(_pids(grid.resolve())["switch"], ["ip", "link", "set", name, "up"])


@commands.command()
def kill(grid: Grid, name: Name) -> None:
    """End a host at once with all that runs on it, as when a spot instance is taken away."""
    grid = grid.resolve()
    _end(_pid(grid, name))
    _save(grid, {other: pid for other, pid in _pids(grid).items() if other != name}, _cpus(grid))


@commands.command()
def down(grid: Grid) -> None:
    """End all hosts and remove the folder."""
    grid = grid.resolve()
    if (grid / "grid.json").exists():  # else `up` did not get far
        for pid in _pids(grid).values():
            _end(pid)
    shutil.rmtree(grid)


def command_on(grid: Path, name: str, command: Sequence[str]) -> list[str]:
    """The command line that runs a command on a host."""
    variables = [f"{key}={value}" for key, value in environment(grid, name).items()]
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
    folder = f"--wd={Path.cwd()}"
    return ["nsenter", f"--target={_pid(grid, name)}", *namespaces, folder, "env", *variables, *command]


def environment(grid: Path, name: str) -> dict[str, str]:
    """What a host sets for every process on it."""
    own = grid / name
    return {
        "HOME": str(own / "home"),
        "TMPDIR": str(own / "tmp"),
        "PIXMIX_RAY_CACHE": str(own / "cache"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(grid / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        **{key: os.environ.get(key, value) for key, value in PATIENCE.items()},
    }


def _lay_out(grid: Path, name: str) -> None:
    for folder in ("ray", "home", "tmp", "cache"):
        (grid / name / folder).mkdir(parents=True, exist_ok=True)
    (grid / name / "is_up").unlink(missing_ok=True)
    pids = _pids(grid)
    namespaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    variables = {"GRID": str(grid), "NAME": name, "PYTHON": sys.executable, "REST": REST}
    pids[name] = _first_process(namespaces, FIRST_PROCESS, variables)
    _save(grid, pids, _cpus(grid))
    _wait_until((grid / name / "is_up").exists, f"{name} did not come up")
    _plug_in(pids["switch"], pids[name], name)


def _start_ray(grid: Path, name: str) -> None:
    place = ["--head", f"--port={PORT}", f"--temp-dir={grid / 'ray'}", "--dashboard-host=127.0.0.1", "--num-cpus=0"]
    if name != "head":
        place = [f"--address={_address('head')}:{PORT}", f"--num-cpus={_cpus(grid)}"]
    own = [f"--node-ip-address={_address(name)}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
    ray = [*RAY, "start", *place, *own]
    for _ in range(ATTEMPTS):
        started = subprocess.run(command_on(grid, name, ray), capture_output=True, text=True, check=False)
        if started.returncode == 0:
            return
        # what is left of the attempt
        subprocess.run(command_on(grid, name, [*RAY, "stop", "--force"]), capture_output=True, check=False)
    raise RuntimeError(f"Ray did not start on {name}: {started.stdout}{started.stderr}")


def _plug_in(switch: int, host: int, name: str) -> None:
    _inside(switch, ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(host)])
    _inside(switch, ["ip", "link", "set", name, "master", "switch", "up"])
    _inside(host, ["ip", "address", "add", f"{_address(name)}/24", "dev", "eth0"])
    _inside(host, ["ip", "link", "set", "eth0", "up"])
    _inside(host, ["ip", "route", "add", "default", "dev", "eth0"])  # leads nowhere; Ray looks there for its address


def _address(name: str) -> str:
    return f"{NETWORK}.{1 if name == 'head' else 1 + int(name.removeprefix('worker'))}"


def _first_process(namespaces: list[str], script: str, variables: Mapping[str, str]) -> int:
    """The process id of a new shell script in new namespaces, that stays when this program ends."""
    outside = subprocess.Popen(
        ["unshare", *namespaces, "sh", "-c", script],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    outside.returncode = 0  # it is not ours to wait for
    if "--fork" not in namespaces:
        here = os.readlink("/proc/self/ns/net")
        _wait_until(lambda: os.readlink(f"/proc/{outside.pid}/ns/net") != here, "no network namespace came up")
        return outside.pid
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
    _wait_until(lambda: bool(children.read_text()), f"no process came up in new namespaces {namespaces}")
    return int(children.read_text().split()[0])


def _wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.05)
    raise RuntimeError(otherwise)


def _end(pid: int) -> None:
    """End the first process of a host; the kernel ends the rest and removes the network."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    _wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"process {pid} does not end")


def _inside(pid: int, command: list[str]) -> None:
    subprocess.run(["nsenter", f"--target={pid}", "--net", *command], check=True, capture_output=True)


def _write_secret(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)


def _save(grid: Path, pids: Mapping[str, int], cpus: int) -> None:
    (grid / "grid.json").write_text(json.dumps({"cpus": cpus, "pids": pids}))


def _pid(grid: Path, name: str) -> int:
    pids = _pids(grid)
    if name not in pids:
        raise typer.BadParameter(f"no host {name!r} is up in {grid}; there are {', '.join(pids)}")
    return pids[name]


def _pids(grid: Path) -> dict[str, int]:
    """The first process of each host that is up, and of the switch."""
    file = grid / "grid.json"
    if not file.exists():
        raise typer.BadParameter(f"there is no grid in {grid}: lay one out with 'up'")
    return {str(name): int(pid) for name, pid in json.loads(file.read_text())["pids"].items()}


def _cpus(grid: Path) -> int:
    return int(json.loads((grid / "grid.json").read_text())["cpus"])


if __name__ == "__main__":
    commands()
