from harness.engine.telemetry.rapl import find_rapl


def test_packages_and_their_memory_are_read_and_parts_of_them_are_not_counted_twice(package, tmp_path):
    for zone, name in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
    }.items():
        package(zone=zone, name=name, at_uj=7)
    package(zone="intel-rapl-mmio:0", name="package-0")
    assert find_rapl(tmp_path).read() == {"package-0": 7, "package-0 dram": 7, "package-1": 7, "package-1 dram": 7}


def test_a_machine_without_counters_says_so(tmp_path):
    found = find_rapl(tmp_path)
    assert not found.domains
    assert found.trouble.startswith("this machine shows no energy counter of its CPU")


def test_counters_that_this_user_may_not_read_are_named_with_the_next_step(package, tmp_path):
    folder = package().folder
    (folder / "energy_uj").unlink()
    (folder / "energy_uj").mkdir()  # a file that cannot be read, for root too
    found = find_rapl(tmp_path)
    assert not found.domains
    assert found.trouble.startswith("the energy counter of package-0 cannot be read: let this user read it: 'sudo chmod a+r ")


def test_the_energy_of_one_package_is_never_taken_for_that_of_both(package, tmp_path):
    package(zone="intel-rapl:0", name="package-0")
    locked = package(zone="intel-rapl:1", name="package-1").folder
    (locked / "max_energy_range_uj").unlink()
    found = find_rapl(tmp_path)
    assert not found.domains
    assert "package-1" in found.trouble


def test_a_counter_that_has_gone_is_left_out(package, tmp_path):
    made = package()
    found = find_rapl(tmp_path)
    (made.folder / "energy_uj").unlink()
    assert found.read() == {}


def test_the_folder_that_the_environment_names_is_read_in_place_of_the_machine_s(package, tmp_path):
    folder = package(at_uj=7).folder.parent
    assert find_rapl(environment={"HARNESS_POWERCAP": str(folder)}).read() == {"package-0": 7}


def test_a_named_folder_without_counters_is_told_by_its_name(tmp_path):
    found = find_rapl(environment={"HARNESS_POWERCAP": str(tmp_path)})
    assert found.trouble == f"$HARNESS_POWERCAP is {tmp_path}, where there is no energy counter (no intel-rapl:*/energy_uj)"
