"""A container: an OCI image that buildah makes of the Containerfile, in a plain bundle of runc.

As root, or as an ordinary user: then root in the container is that user outside.
"""

import json
import os
import resource
import subprocess
from pathlib import Path

from image import SOURCE, find_command, run, run_in_front

IMAGE = "aios"
# What root in the container may do there. The last three let AIOS map the users of its contexts'
# namespaces; without them contexts have no namespaces of their own.
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
                "CAP_SETPCAP", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID"]


class Buildah:
    """buildah with a store of its own, so that no other image is touched."""

    def __init__(self, folder):
        # vfs: plain folders, which need no privileges and lie on any file system.
        self.command = ["buildah", "--root", folder / "store", "--runroot", folder / "run",
                        "--storage-driver", "vfs"]
        self.outside = ["buildah", "unshare"] if os.geteuid() != 0 else []

    def __call__(self, *words):
        return run(*self.command, *words).strip()

    def unshared(self, *words):
        """For what an ordinary user may do in a user namespace only."""
        return run(*self.outside, *self.command, *words).strip()

def build_image(buildah, root):
    """Builds the image of `root`, a folder of that name."""
    # chroot: nothing runs while it is built, and no other isolation is as widely possible.
    buildah("build", "--isolation", "chroot", "--quiet", "--tag", IMAGE, "--file",
            SOURCE / "tools/boot/Containerfile", root.parent)


def write_config(bundle, root_path, arguments, options, terminal):
    """The bundle's config.json: what `runc spec` proposes, adapted."""
    rootless = ["--rootless"] if os.geteuid() != 0 else []
    run(find_command("runc"), "spec", *rootless, cwd=bundle)
    path = bundle / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["hostname"] = "aios"
    config["root"] = {"path": str(root_path), "readonly": False}
    process = config["process"]
    process["args"] = arguments
    process["terminal"] = terminal
    process["env"] += options.environment
    process["capabilities"] = {name: CAPABILITIES
                               for name in ["bounding", "effective", "permitted"]}
    # As many open files as here: runc proposes 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": hard, "soft": soft}]
    if options.results:
        config["mounts"].append({"destination": "/results", "type": "bind", "options": ["rbind"],
                                 "source": str(Path(options.results).resolve())})
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def run_container(root, folder, options, terminal):
    """Runs a container of the folder `root` until it ends; its exit code. `folder` is for its image,
    and everything else that is needed as long as it runs."""
    runc = find_command("runc")
    buildah = Buildah(folder)
    build_image(buildah, root)
    if options.save:
        buildah("push", "--quiet", IMAGE, f"oci-archive:{options.save.resolve()}:{IMAGE}")
        return 0
    container = buildah("from", IMAGE)
    entry = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]["Entrypoint"]
    bundle = folder / "bundle"
    bundle.mkdir()
    if options.results:
        Path(options.results).mkdir(parents=True, exist_ok=True)
    write_config(bundle, buildah.unshared("mount", container), [*entry, "aios-command"], options,
                 terminal)
    try:
        return run_in_front([runc, "--root", folder / "runc", "run", "--bundle", bundle, folder.name],
                            options.deadline)
    finally:
        subprocess.run([runc, "--root", folder / "runc", "delete", "--force", folder.name],
                       capture_output=True, check=False)
