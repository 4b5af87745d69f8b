# SPDX-License-Identifier: Apache-2.0
"""What test classes share."""

import unittest

from .lab import Lab, wait_until


def field(record, path):
    for key in path.split("__"):
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


def matching(records, **conditions):
    """Records whose fields are as given; dst__port=80 is record["dst"]["port"]."""
    return [record for record in records if all(field(record, path) == value for path, value in conditions.items())]


class LabTest(unittest.TestCase):
    """A class has one Lab, named after it, for all its tests."""

    lab: Lab

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(cls.__name__)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.open()
        cls.arrange()

    @classmethod
    def arrange(cls):
        """Hosts and daemons of the class."""

    def assertRefused(self, outcome, error):
        """Refused, with this error, and at once: not by a time-out (the first retransmission of a SYN is after 1 s)."""
        self.assertFalse(outcome["ok"], outcome)
        self.assertEqual(outcome["error"], error, outcome)
        self.assertLess(outcome["seconds"], 0.5, outcome)

    def assertPasses(self, outcome):
        self.assertTrue(outcome["ok"], outcome)

    def await_record(self, query, timeout=5.0, **conditions):
        """The newest record that matches, as soon as there is one."""
        found = wait_until(lambda: matching(query(), **conditions), timeout, f"a record with {conditions}", 0.1)
        return found[-1]
