"""Runs the test modules, prints each case, a table by suite, and `N passed, M failed` as the last line."""

import importlib
import signal
import sys
import traceback
import unittest

import support

MODULES = ["users", "calls", "standard_services", "tools", "tls", "js", "go", "process"]

# A case takes seconds. The limit turns a client that waits for ever into a failed case.
CASE_LIMIT_SECONDS = 60

# Lines of a failed suite's server log: enough for the calls of one case.
LOG_LINES_SHOWN = 20


class Suite(unittest.TestResult):
    """The outcome of one test class, printed case by case."""

    def __init__(self, name):
        super().__init__()
        self.name, self.cases, self.failed = name, 0, 0

    def startTest(self, test):
        super().startTest(test)
        self.cases += 1
        self.faults = []
        signal.alarm(CASE_LIMIT_SECONDS)

    def stopTest(self, test):
        signal.alarm(CASE_LIMIT_SECONDS)
        self.failed += bool(self.faults)
        self.show(test._testMethodName.removeprefix("test_"), self.faults)

    def addError(self, test, error):
        if isinstance(test, unittest.TestCase):
            self.faults.append(error)
        else:  # setUpClass or tearDownClass
            self.cases += 1
            self.failed += 1
            self.show(str(test).split()[0], [error])

    addFailure = addError

    def addSubTest(self, test, subtest, error):
        if getattr(test, "subtests_are_cases", False):
            self.cases += 1
            self.failed += error is not None
            self.show(subtest._message, [error] if error else [])
            signal.alarm(CASE_LIMIT_SECONDS)
        elif error is not None:
            self.faults.append(error)

    def show(self, case, faults):
        print("FAIL" if faults else "ok  ", self.name, case, flush=True)
        for error in faults:
            print("".join(traceback.format_exception(*error)), end="", flush=True)


def suites_of(module):
    for tests in unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(f"test_{module}")):
        # A class without tests is a base class.
        for test in list(tests)[:1]:
            yield Suite(f"{module}.{type(test).__name__}"), tests


def run(suite, tests):
    support.Server.logs.clear()
    # Each case restarts the count; this one is for the time before the first and after the last.
    signal.alarm(CASE_LIMIT_SECONDS)
    tests.run(suite)
    signal.alarm(0)
    if suite.failed:
        for log in support.Server.logs:
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            print(f"--- the end of the log of {log.name}", *lines, "---", sep="\n", flush=True)


def on_alarm(_signal, _frame):
    raise TimeoutError(f"the case took more than {CASE_LIMIT_SECONDS} s")


def main(modules):
    unknown = set(modules) - set(MODULES)
    if unknown:
        sys.exit(f"no such modules: {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    signal.signal(signal.SIGALRM, on_alarm)
    suites = []
    for module in modules or MODULES:
        for suite, tests in suites_of(module):
            run(suite, tests)
            suites.append(suite)

    width = max(len(suite.name) for suite in suites)
    print(f"\n{'suite':{width}} | cases | passed | failed")
    print(f"{'-' * width} | ----- | ------ | ------")
    for suite in suites:
        print(f"{suite.name:{width}} | {suite.cases:5} | {suite.cases - suite.failed:6} | {suite.failed:6}")
    cases, failed = (sum(getattr(suite, n) for suite in suites) for n in ("cases", "failed"))
    print(f"\n{cases - failed} passed, {failed} failed")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
