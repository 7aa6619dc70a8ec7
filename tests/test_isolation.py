"""Plugins that print, end the program or change its settings: none of it reaches a result, or another plugin."""

from __future__ import annotations

import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import environment, records_of
from PIL import Image, ImageFile

from deeploc_bench.contract import isolation
from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.replaced import originals
from deeploc_bench.training import evaluate  # noqa: F401

# each place where code of a plugin runs does what the environment says of it
PLUGIN = """
import builtins, os, sys
import numpy as np
from deeploc_bench import GeneratorDataset, Loss, Model, Sample, hookimpl

def at(place):
    code = os.environ.get(place, "")
    if code.startswith("raise "):  # an interrupt out of exec would be one of the interpreter
        raise getattr(builtins, code[6:])
    exec(code)

def build():
    at("build")
    import torch
    from torch import nn

    class Net(nn.Conv2d):
        def forward(self, images):
            at("forward_train" if self.training and len(images) > 2 else "forward")
            return super().forward(images)

    return Net(3, 1, 3, padding=1)

def build_loss():
    at("loss_build")
    def loss(logits, masks):
        at("loss")
        return ((logits.sigmoid() - masks) ** 2).mean()
    return loss

def image(number):
    at("sample")
    return np.random.default_rng(number).integers(0, 256, (64, 64, 3)).astype(np.uint8)

def mask():
    return np.indices((64, 64)).sum(0) < 60

def samples():
    at("samples")
    def some(split, count):
        return [Sample(id=f"{split}-{i}", source=f"{split}-{i}", image=lambda i=i: image([i, len(split)]), mask=mask)
                for i in range(count)]
    return {"train": some("train", 8), "valid": some("valid", 2), "test": some("test", 3)}

@hookimpl
def deeploc_models():
    at("hook")
    return [Model(name="net", build=build, reference=None, pretraining="none")]

@hookimpl
def deeploc_losses():
    return [Loss(name="odd-loss", build=build_loss)]

@hookimpl
def deeploc_datasets():
    return [GeneratorDataset(name="one", suite="odd", build=samples)]

@hookimpl
def deeploc_epoch_finished(epoch):
    at("observer")

at("import_")
"""
RUN = ["run", "--plugin", "odd.py", "--suite", "odd", "--protocol", "same", "--model", "net", "--loss", "odd-loss"]
RUN += ["--recipe", "quick", "--set", "epochs=1", "--threads", "1"]
CHATTER = "print('chatter'); os.system('echo chatter'); os.write(1, b'chatter\\n')"
PLACES = ("import_", "hook", "build", "forward", "loss_build", "loss", "sample", "samples", "observer")
EXITS = {
    "sys.exit(0)": "SystemExit: 0",
    "os._exit(0)": "SystemExit: os._exit(0)",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
}


@pytest.fixture
def odd(deeploc, tmp_path):
    """Run the plugin with some code at some of its places."""
    (tmp_path / "odd.py").write_text(PLUGIN)
    return lambda *flags, **code: deeploc(*RUN, *flags, **code)


def test_what_a_plugin_prints_anywhere_goes_to_stderr(odd):
    done = odd("--json", **dict.fromkeys(PLACES, CHATTER))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] == 1
    assert done.stderr.count("chatter") > 3 * len(PLACES)


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("forward", "os._exit(0)"),
        *(
            pytest.param(place, code, marks=pytest.mark.slow)
            for place in PLACES
            for code in EXITS
            if (place, code) != ("forward", "os._exit(0)") and place != "observer"
        ),
    ],
)
def test_a_plugin_that_would_end_the_program_is_named_and_nothing_is_done(odd, tmp_path, place, code):
    done = odd("--json", **{place: code})
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False), done.stderr
    assert EXITS[code] in done.stderr and ("odd" in done.stderr or "model 'net'" in done.stderr)
    assert not list(tmp_path.glob("runs/**/model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("code", EXITS)
def test_an_exit_in_the_midst_of_a_training_fails_that_training(odd, code):
    done = odd("--json", forward_train=code)
    assert done.returncode == 1, done.stderr
    assert EXITS[code] in json.loads(done.stdout)["failed"][0]["reason"]


LATE = """
import atexit, os, sys
from deeploc_bench import Model, PluginError, hookimpl

atexit.register(os._exit, 0)
atexit.register(print, "chatter at the end")
LATE = {
    "memory": "raise MemoryError",
    "plugin-error": "raise PluginError('this image is too dark')",
    "shape": "logits = logits[:, :, :-1]",
    "dtype": "logits = logits.detach() > 0",
    "nan": "logits = logits * float('nan')",
    "patch": "torch.sigmoid = torch.tanh",
    "exit": "os._exit(0)",
    "sound": "pass",
}

def build(name):
    import torch
    class Net(torch.nn.Conv2d):
        seen = 0
        def forward(self, images):
            logits = super().forward(images)
            self.seen += self.training and len(images) > 4
            code = {"os": os, "torch": torch, "PluginError": PluginError, "logits": logits}
            if self.seen == 3:  # the first step of the second epoch
                exec(LATE[name], code)
            return code["logits"]
    return Net(3, 1, 3, padding=1)

@hookimpl
def deeploc_models():
    about = {"reference": None, "pretraining": "none"}
    return [Model(name=name, build=lambda name=name: build(name), **about) for name in LATE]
"""
REASONS = {
    "memory": "MemoryError",
    "plugin-error": "this image is too dark",
    "shape": "model 'shape' (plugin 'late') returned logits of shape (8, 1, 63, 64)",
    "dtype": "model 'dtype' (plugin 'late') returned torch.bool logits; expected torch.float32",
    "nan": "the loss is nan in epoch 2",
    "patch": "code of its model or loss replaces torch.sigmoid, which",
    "exit": "its code would end the program: SystemExit: os._exit(0)",
}


@pytest.mark.slow
def test_what_breaks_in_the_midst_of_one_training_fails_that_training_alone(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    plugins = ["--plugin", Path(__file__).parent / "tiny.py", "--plugin", "late.py"]
    models = [word for name in (*REASONS, "sound") for word in ("--model", name)]
    flags = ["--suite", "tiny", "--protocol", "cross", "--recipe", "quick", "--set", "epochs=2", "--threads", "1"]
    # a process of its own: what a plugin leaves for the exit is run there
    asked = [sys.executable, "-m", "deeploc_bench", "run", *plugins, *models, *flags, "--set", "batch_size=8", "--json"]
    done = subprocess.run(asked, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (done.returncode, found["trained"]) == (1, 2), done.stderr
    reasons = {failure["model"]: failure["reason"] for failure in found["failed"]}
    assert {name: reason[: len(REASONS[name])] for name, reason in reasons.items()} == REASONS
    assert "chatter at the end" in done.stderr and done.stderr.count("Traceback") == 1  # of the exit that was refused


@pytest.mark.slow
@pytest.mark.parametrize("code", EXITS)
def test_an_observer_that_would_end_the_program_is_a_warning(odd, code):
    done = odd("--json", observer=code)
    assert (done.returncode, json.loads(done.stdout)["trained"]) == (0, 1)
    assert "warning: observer odd: deeploc_epoch_finished" in done.stderr and EXITS[code] in done.stderr


SETTINGS = """
import builtins, random, signal, warnings
import torch
from PIL import Image, ImageFile
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_num_threads(3)
torch.set_grad_enabled(False)
torch.set_float32_matmul_precision("medium")
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.benchmark = True
torch.backends.mkldnn.enabled = False
torch.set_autocast_enabled("cpu", True)
torch.nn.modules.module.register_module_forward_hook(lambda module, given, out: out * 2)
builtins.print = sys.exit = lambda *arguments, **options: None
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); signal.alarm(1000)
torch.manual_seed(7); random.seed(7); np.random.seed(7)
np.seterr(all="raise")
warnings.simplefilter("error")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.chdir("/"); os.environ["ODD"] = "1"; os.environ.pop("HF_HUB_OFFLINE", None)
Image.MAX_IMAGE_PIXELS = None; ImageFile.LOAD_TRUNCATED_IMAGES = True
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["import_", "hook", "build", "loss_build", "sample", "samples", "observer"])
def test_settings_that_a_plugin_changes_change_no_record(odd, tmp_path, place):
    assert odd("--runs", "plain").returncode == 0
    # a module on the device meta has no weights: what a build makes of its own settings is its own affair
    code = SETTINGS.replace('torch.set_default_device("meta")', "").replace("torch.set_default_dtype", "str")
    code = code.replace("torch.manual_seed(7)", "0") if place == "build" else code
    done = odd("--runs", "changed", **{place: code})
    assert done.returncode == 0, done.stderr
    assert records_of(tmp_path / "plain") == records_of(tmp_path / "changed") != {}


def changed_settings():
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": torch.backends.cudnn.benchmark,
        "mkldnn": torch.backends.mkldnn.enabled,
        "autocast": torch.is_autocast_enabled("cpu"),
        "hooks": len(torch.nn.modules.module._global_forward_hooks),
        "functions": (print, sys.exit),
        "signals": (signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getitimer(signal.ITIMER_REAL)),
        "path": set(sys.path) - {""},
        "torch stream": torch.initial_seed(),
        "stream": random.getstate(),
        "numpy stream": np.random.get_state()[1].tolist(),
        "errstate": np.geterr(),
        "warnings": list(warnings.filters),
        "handler": signal.getsignal(signal.SIGTERM),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
    }


def test_every_setting_that_an_import_changes_is_put_back_and_told(tmp_path):
    (tmp_path / "rude.py").write_text(f"import os, sys\nimport numpy as np\n{SETTINGS}\nsys.path.pop(1)")
    before = changed_settings()
    (finding,) = load_plugins([str(tmp_path / "rude.py")]).findings
    assert os.environ.pop("ODD") == "1"  # what is new is the plugin's own
    after = changed_settings()
    assert before.pop("environment").items() <= after.pop("environment").items()
    assert before.pop("path") < after.pop("path")
    assert after == before
    told = ("the working directory", "signal handlers", "blocked signals", "torch's hooks of all modules", "alarms")
    for name in (*told, "torch's default dtype", "torch's autocast", "Pillow's MAX_IMAGE_PIXELS", "sys.exit", "print"):
        assert name in finding.message
    assert finding.where == f"plugin {tmp_path / 'rude.py'}"


@pytest.mark.parametrize("code", ["torch.set_default_dtype(torch.float64)", "torch.set_num_threads(5)"])
def test_a_forward_that_changes_what_results_depend_on_is_refused_and_put_back(code):
    before = changed_settings()
    told = r"model 'net' changes torch's (default dtype|number of threads)"
    with pytest.raises(PluginError, match=told), isolation.unchanged("model 'net'"):
        exec(code)
    assert changed_settings() == before


REPLACED = {
    "torch.sigmoid = lambda logits: logits": "torch.sigmoid",
    "torch.sigmoid = torch.tanh": "torch.sigmoid",
    "del torch.where": "torch.where",
    "torch.nn.functional.interpolate = functools.partial(torch.nn.functional.interpolate, antialias=True)": (
        "torch.nn.functional.interpolate"
    ),
    "torch.Tensor.sum = lambda tensor, *_, **__: tensor": "torch.Tensor.sum",
    "torch.Tensor.__gt__ = lambda tensor, other: tensor": "torch.Tensor.__gt__",
    "torch.nn.Conv2d = torch.nn.Conv1d": "torch.nn.Conv2d",
    "torch.nn.Conv2d.forward = lambda layer, images: images": "torch.nn.modules.conv.Conv2d.forward",
    "torch.nn.ReLU.__call__ = lambda layer, images: images": "torch.nn.modules.activation.ReLU.__call__",
    "torch.nn.modules.batchnorm._BatchNorm.forward = None": "torch.nn.modules.batchnorm._BatchNorm.forward",
    "torch.optim.Adam.step = lambda adam: None": "torch.optim.adam.Adam.step",
    "np.random.default_rng = lambda seed: None": "numpy.random.default_rng",
    "Image.Image.resize = None": "PIL.Image.Image.resize",
    "evaluate.count_batch = None": "deeploc_bench.training.evaluate.count_batch",
}


@pytest.mark.parametrize("code", REPLACED)
@pytest.mark.parametrize("context", [isolation.guarded, isolation.unchanged], ids=["guarded", "unchanged"])
def test_a_function_that_a_plugin_replaces_for_everybody_is_named_and_put_back(code, context):
    before = originals()
    told = re.escape(f"model 'net' replaces {REPLACED[code]}, which other plugins and the harness compute with")
    with pytest.raises(PluginError, match=told), context("model 'net'"):
        exec(code)
    assert originals() == before


FIRST = """
from deeploc_bench.contract.isolation import guarded
try:
    with guarded("it"):
        import numpy as np
        np.where = np.random.default_rng = print
except Exception as error:
    print(error)
print(np.where.__name__, np.random.default_rng.__name__)
"""


def test_one_that_is_replaced_where_its_library_is_first_imported_is_put_back_too():
    said = subprocess.run([sys.executable, "-c", FIRST], env=environment(), capture_output=True, text=True).stdout
    assert said.startswith("it replaces numpy.random.default_rng, numpy.where, ")
    assert said.endswith("\nwhere default_rng\n")


OWN = """
class Net(torch.nn.Conv2d):
    def forward(self, images):
        return super().forward(images) * 2
net = Net(3, 1, 1)
net.register_forward_hook(lambda module, given, out: out + 1)
net.forward = functools.partial(net.forward)
torch.optim.LBFGS(net.parameters())
torch.nn.functional.mine, torch.load = print, torch.load
with torch.autocast("cpu"), torch.no_grad():
    net(torch.zeros(1, 3, 8, 8))
"""


def test_layers_hooks_and_names_of_a_plugin_s_own_disturb_nobody():
    with isolation.unchanged("model 'net'"):
        exec(OWN, {"torch": torch, "functools": functools})
    del torch.nn.functional.mine


@pytest.mark.slow
def test_what_torch_wraps_itself_where_it_compiles_is_no_replacement():
    with isolation.unchanged("model 'net'"):
        import torch._dynamo  # noqa: F401


def test_a_module_imports_no_library_to_look_at_its_settings():
    code = "import sys; from deeploc_bench.contract.isolation import guarded\n"
    code += "with guarded('x'): pass\nassert not {'torch', 'numpy', 'PIL'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_a_stop_from_outside_is_no_exit_of_a_plugin():
    with pytest.raises(isolation.Stopped), isolation.guarded("hook"):
        raise isolation.Stopped(signal.SIGTERM)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins without Python's own
    try:
        with pytest.raises(KeyboardInterrupt), isolation.guarded("hook"):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


CLOSED = """
import os, sys
from deeploc_bench.contract.isolation import guarded
with guarded("it"):
    {code}
print("out")
print("error", file=sys.stderr)
assert open("file", "w").fileno() > 2
"""


@pytest.mark.parametrize("code", ["os.close(1); os.close(2)", "sys.stdout.close()", "sys.stdout = sys.stderr = None"])
def test_streams_that_a_plugin_closes_are_open_again(code, tmp_path):
    command = [sys.executable, "-c", CLOSED.format(code=code)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "error\n")


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "1 / 0"])
def test_a_forked_process_that_comes_back_is_ended(end, capfd):
    own = os.getpid()
    with isolation.guarded("it"):
        child = os.fork()
        exec(end if os.getpid() != own else "")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert "a process that a plugin's code has forked came back" in capfd.readouterr().err


UNSEEN = """
import os, posix, sys
from deeploc_bench.contract.isolation import guarded
try:
    with guarded("it"):
        {call}
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("call", ["os._exit(0)", "posix._exit(0)", "os.abort()", "os.execlp('true', 'true')"])
def test_no_call_ends_the_program_unseen(call):
    done = subprocess.run([sys.executable, "-c", UNSEEN.format(call=call)], env=environment(), capture_output=True)
    assert done.stdout.startswith(b"it would end the program: SystemExit: os.")


def test_a_forked_process_may_end_itself():
    with isolation.exits_raised():
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with pytest.raises(SystemExit, match=r"os\._exit\(0\)"):
            os._exit(0)
