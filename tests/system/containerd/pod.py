"""STUBS SOCKET IMAGE COMMAND: a pod with one container of IMAGE, as a kubelet would have it.

Prints a line of JSON, the container's id and what COMMAND printed in it, and takes all away once
its standard input ends. A process of its own: gRPC keeps threads and descriptors. STUBS is where
``generate`` has put the interface; the host's network saves a pod from needing plugins for one.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

PROTO = "usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto"


def generate(proto: Path, stubs: Path) -> None:
    """Put into the directory STUBS what Python needs of the interface PROTO."""
    # How Go's code is to look is of no interest here, and its file would be missed.
    lines = [line for line in proto.read_text().splitlines(True) if "gogo" not in line]
    (stubs / "api.proto").write_text("".join(lines))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{stubs}", f"--python_out={stubs}"]
    subprocess.run([*command, f"--grpc_python_out={stubs}", "api.proto"], check=True)


def main(stubs: str, socket: str, image: str, *command: str) -> None:
    """Run the pod."""
    sys.path.insert(0, stubs)
    grpc, api, services = map(importlib.import_module, ("grpc", "api_pb2", "api_pb2_grpc"))
    # The name of a socket is no name of a host.
    options = [("grpc.default_authority", "localhost")]
    runtime = services.RuntimeServiceStub(grpc.insecure_channel(f"unix:{socket}", options))
    own = api.NamespaceOption(network=api.NODE, pid=api.CONTAINER)
    context = api.LinuxSandboxSecurityContext(namespace_options=own)
    pod = api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(name="pod", uid="1", namespace="default"),
        log_directory="/run/pod",
        linux=api.LinuxPodSandboxConfig(security_context=context),
    )
    sandbox = runtime.RunPodSandbox(api.RunPodSandboxRequest(config=pod)).pod_sandbox_id
    try:
        context = api.LinuxContainerSecurityContext(namespace_options=own)
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name="container"),
            image=api.ImageSpec(image=image),
            log_path="log",
            linux=api.LinuxContainerConfig(security_context=context),
        )
        asked = api.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=pod
        )
        container = runtime.CreateContainer(asked).container_id
        runtime.StartContainer(api.StartContainerRequest(container_id=container))
        asked = api.ExecSyncRequest(container_id=container, cmd=command, timeout=60)
        said = runtime.ExecSync(asked).stdout.decode()
        print(json.dumps({"container": container, "said": said}), flush=True)
        sys.stdin.read()
    finally:
        runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=sandbox))
        runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=sandbox))


if __name__ == "__main__":
    main(*sys.argv[1:])
