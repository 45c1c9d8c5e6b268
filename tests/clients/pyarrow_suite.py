"""pyarrow's file system, which is the AWS SDK for C++: parquet read by ranges, streams, directories, odd names."""

import hashlib

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from suite import HOST, LONG, ODD_NAMES, SIZES, data, raises, run

fs = pafs.S3FileSystem(endpoint_override=HOST, scheme="http", region="us-east-1",
                       allow_bucket_creation=True, allow_bucket_deletion=True)
BUCKET = "arrow-bucket"
ROWS = 4_000_000 if LONG else 200_000
GROUP = 20_000


def table():
    return pa.table({
        "id": pa.array(range(ROWS), pa.int64()),
        "x": pa.array((i * 7919 % 10_007 / 3 for i in range(ROWS)), pa.float64()),
        "name": pa.array((f"n{i * 31 % 1009}" for i in range(ROWS)), pa.string()),
        "part": pa.array((i % 5 for i in range(ROWS)), pa.int64()),
    })


TABLE = table()


def read(path):
    with fs.open_input_stream(path) as stream:
        return stream.read()


def write(path, body):
    with fs.open_output_stream(path) as stream:
        stream.write(body)


def case_streams_of_many_sizes():
    for size in SIZES:
        body = data(size)
        write(f"{BUCKET}/size/{size}", body)
        assert hashlib.sha256(read(f"{BUCKET}/size/{size}")).digest() == hashlib.sha256(body).digest(), size
        assert fs.get_file_info(f"{BUCKET}/size/{size}").size == size
    write(f"{BUCKET}/size/1", b"other")
    assert read(f"{BUCKET}/size/1") == b"other"


def case_reads_at_offsets():
    body = data(SIZES[-1])
    with fs.open_input_file(f"{BUCKET}/size/{len(body)}") as file:
        assert file.size() == len(body)
        for offset, length in [(0, 1), (1, 100_000), (len(body) // 2, 3_000_000), (len(body) - 7, 7)]:
            assert file.read_at(length, offset) == body[offset:offset + length], (offset, length)
        file.seek(len(body) - 5)
        assert file.read(100) == body[-5:]


def case_parquet_by_row_group_and_column():
    path = f"{BUCKET}/tables/one +é%.parquet"
    pq.write_table(TABLE, path, filesystem=fs, row_group_size=GROUP)
    for pre_buffer in (False, True):
        file = pq.ParquetFile(path, filesystem=fs, pre_buffer=pre_buffer)
        assert file.metadata.num_rows == ROWS and file.metadata.num_row_groups == ROWS // GROUP
        for group in (0, 3, ROWS // GROUP - 1):
            found = file.read_row_group(group, columns=["x", "name"])
            assert found.equals(TABLE.slice(group * GROUP, GROUP).select(["x", "name"])), group
    assert pq.read_table(path, filesystem=fs).equals(TABLE)


def case_a_partitioned_dataset_is_filtered():
    parts = ds.partitioning(pa.schema([("part", pa.int64())]), flavor="hive")
    ds.write_dataset(TABLE, f"{BUCKET}/set", filesystem=fs, format="parquet", partitioning=parts)
    found = ds.dataset(f"{BUCKET}/set", filesystem=fs, partitioning=parts)
    assert len(found.files) == 5, found.files
    rows = found.to_table(filter=(ds.field("part") == 3) & (ds.field("id") < 1000), columns=["id"])
    assert sorted(rows["id"].to_pylist()) == list(range(3, 1000, 5))


def case_odd_names_are_copied_moved_and_listed():
    for name in ODD_NAMES:
        write(f"{BUCKET}/odd/{name}", name.encode())
        fs.copy_file(f"{BUCKET}/odd/{name}", f"{BUCKET}/copy/{name}")
        fs.move(f"{BUCKET}/copy/{name}", f"{BUCKET}/moved/{name}")
        assert read(f"{BUCKET}/moved/{name}") == name.encode()
    selected = fs.get_file_info(pafs.FileSelector(f"{BUCKET}/moved", recursive=True))
    assert sorted(info.base_name for info in selected) == sorted(ODD_NAMES), selected
    copies = fs.get_file_info(pafs.FileSelector(f"{BUCKET}/copy", allow_not_found=True))
    assert [info for info in copies if info.is_file] == [], copies


def case_what_is_not_there():
    assert fs.get_file_info(f"{BUCKET}/nothing").type == pafs.FileType.NotFound
    assert fs.get_file_info(f"{BUCKET}/odd").type == pafs.FileType.Directory
    raises(FileNotFoundError, fs.open_input_file, f"{BUCKET}/nothing")


def case_zz_everything_is_removed():
    fs.delete_file(f"{BUCKET}/size/0")
    assert fs.get_file_info(f"{BUCKET}/size/0").type == pafs.FileType.NotFound
    fs.delete_dir_contents(f"{BUCKET}/set")
    assert fs.get_file_info(pafs.FileSelector(f"{BUCKET}/set", recursive=True, allow_not_found=True)) == []
    fs.delete_dir(BUCKET)
    assert fs.get_file_info(BUCKET).type == pafs.FileType.NotFound


fs.create_dir(BUCKET)
run(globals())
