# SPDX-License-Identifier: Apache-2.0
"""What dpkg does with the files in /etc/bulkhead. bulkhead-setup writes to them, and nobody may be asked of them in an upgrade."""
import shutil
import sys
import unittest

sys.dont_write_bytecode = True
from stub_packages import CONFIGURATION, Root

EDITED = "# the admin's\nhostname: a\n"


class Checks:
    part = ""

    def setUp(self):
        self.root = Root(self)
        self.package = f"bulkhead-{self.part}"
        self.file = self.root.path / "etc/bulkhead" / CONFIGURATION[self.part]

    def test_a_first_installation_makes_it(self):
        self.root.check("--install", self.root.build(self.part, "1.0"), umask=0o077)
        self.assertEqual((self.file.read_text(), self.file.stat().st_mode & 0o7777), ("a: 1\n", 0o644))
        self.assertEqual(self.file.parent.stat().st_mode & 0o7777, 0o755)
        self.assertEqual([path.name for path in self.file.parent.iterdir()], [self.file.name])

    def test_a_first_installation_leaves_one_that_is_there(self):
        self.file.parent.mkdir(mode=0o700)
        self.file.write_text(EDITED)
        self.root.install(self.part, "1.0")
        self.assertEqual((self.file.read_text(), self.file.parent.stat().st_mode & 0o7777), (EDITED, 0o700))

    def test_an_upgrade_neither_changes_it_nor_brings_it_back(self):
        self.root.install(self.part, "1.0")
        self.root.install(self.part, "1.1", "a: 2\n")
        self.assertEqual(self.file.read_text(), "a: 1\n")
        self.file.write_text(EDITED)
        self.root.install(self.part, "1.2", "a: 3\n")
        self.assertEqual(self.file.read_text(), EDITED)
        self.file.unlink()
        self.root.install(self.part, "1.3", "a: 4\n")
        self.assertFalse(self.file.exists())
        self.root.check("--remove", self.package)
        self.root.install(self.part, "1.4", "a: 5\n")
        self.assertFalse(self.file.exists())

    def test_an_upgrade_from_a_package_that_has_it_as_conffile_keeps_it(self):
        for text in ("a: 1\n", EDITED):
            with self.subTest(text):
                self.root.install(self.part, "1.0", conffile=True)
                self.file.write_text(text)
                self.root.install(self.part, "1.1", "a: 2\n")
                self.assertEqual(self.file.read_text(), text)
                self.root.check("--purge", self.package)
                self.assertEqual(self.root.left(), [])

    def test_a_conffile_that_the_admin_has_removed_stays_away(self):
        self.root.install(self.part, "1.0", conffile=True)
        self.file.unlink()
        self.root.install(self.part, "1.1")
        self.assertFalse(self.file.exists())

    def test_removal_keeps_it_and_purge_does_not(self):
        self.root.install(self.part, "1.0")
        self.file.write_text(EDITED)
        self.root.check("--remove", self.package)
        self.assertEqual(self.file.read_text(), EDITED)
        self.root.check("--purge", self.package)
        self.assertEqual(self.root.left(), [])
        self.root.install(self.part, "1.1", "a: 2\n")
        self.assertEqual(self.file.read_text(), "a: 2\n")

    def test_purge_leaves_what_others_have_put_beside_it(self):
        self.root.install(self.part, "1.0")
        (self.file.parent / "policy").mkdir()
        self.root.check("--purge", self.package)
        self.assertEqual(self.root.left(), ["etc/bulkhead", "etc/bulkhead/policy"])

    def test_a_downgrade_asks_nothing_where_it_was_a_conffile_before(self):
        before = self.root.build(self.part, "1.0", conffile=True)
        self.root.check("--install", before)
        self.file.write_text(EDITED)
        self.root.install(self.part, "1.1", "a: 2\n")
        self.root.check("--install", before)
        self.assertEqual(self.file.read_text(), EDITED)

    def test_a_downgrade_to_a_conffile_asks_of_an_edited_file_that_never_was_one(self):
        self.root.install(self.part, "1.1")
        before = self.root.build(self.part, "1.0", conffile=True)
        self.root.check("--install", before)  # the same text: nothing to ask
        self.root.check("--purge", self.package)
        self.root.install(self.part, "1.2")
        self.file.write_text(EDITED)
        self.assertIn("Configuration file", self.root.dpkg("--install", before).stdout)
        self.assertEqual(self.file.read_text(), EDITED)
        self.assertEqual(self.root.dpkg("--configure", "--force-confold", self.package).returncode, 0)
        self.assertEqual(self.file.read_text(), EDITED)


@unittest.skipUnless(shutil.which("dpkg"), "dpkg is not installed")
class OfTheAgent(Checks, unittest.TestCase):
    part = "agent"


@unittest.skipUnless(shutil.which("dpkg"), "dpkg is not installed")
class OfTheController(Checks, unittest.TestCase):
    part = "controller"


if __name__ == "__main__":
    unittest.main()
