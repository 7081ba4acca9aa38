"""Runs the suites beside this file: a line for each test, the sidecars' last words for each failure, one sum."""

import asyncio
import os
import sys
import time
import unittest
import warnings

import sidecar


class Result(unittest.TestResult):
    passed = 0

    def startTest(self, test):
        super().startTest(test)
        self.begin = time.monotonic()

    def line(self, word, test, detail=''):
        elapsed = time.monotonic() - getattr(self, 'begin', time.monotonic())
        print(f'{word:7} {test.id()} ({elapsed:.1f} s){detail}', flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.line('ok', test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line('skipped', test, f': {reason}')

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.report(test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.report(test, self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.report(subtest, str(err[1]))

    def report(self, test, trace):
        self.line('FAILED', test, '\n' + trace)
        for each in sidecar.running():
            print(f'  log of {each.app_id}:', *each.complaints(), sep='\n    ', flush=True)


if not os.path.isfile(sidecar.BINARY):
    sys.exit('PILLION_BIN names no binary')
warnings.simplefilter('ignore')
# The SDK's blocking invocations reuse the thread's loop; without one each call leaves a loop behind.
asyncio.set_event_loop(asyncio.new_event_loop())
suite = unittest.defaultTestLoader.discover(os.path.dirname(os.path.abspath(__file__)))
result = Result()
suite.run(result)
failed = len(result.failures) + len(result.errors)
sidecar.stop_all()
print(f'{result.passed} passed, {failed} failed, {len(result.skipped)} skipped', flush=True)
# Subscriptions that failed may have left threads that wait for ever.
os._exit(1 if failed else 0)
