"""TFRecord files of tf.Examples."""

import apache_beam as beam
from apache_beam.io.tfrecordio import WriteToTFRecord

from pipeline.models.tensorflow_import import tf


def write_tfrecord(path, images, **options):
    """Images as (name or None, bytes[, class]) → the records of one shard."""

    def example(name, data, truth=None):
        texts = {"image/filename": name, "image/class/text": truth}
        feature = {key: text.encode() for key, text in texts.items() if text}
        feature["image/encoded"] = data
        lists = {
            key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for key, value in feature.items()
        }
        return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        records = [example(*image) for image in images]
        _ = (
            pipeline
            | beam.Create(records, reshuffle=False)
            | WriteToTFRecord(str(path), shard_name_template="", **options)
        )
    return str(path)
