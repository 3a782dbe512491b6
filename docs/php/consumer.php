<?php
/**
 * Reads a result stream as an old consumer does: php consumer.php HOST PORT STREAM [COUNT]
 *
 * Prints one JSON object a result; the vector is a list of numbers. Needs the extension redis (phpredis). With a
 * consumer group, replace xRead by xReadGroup and acknowledge; nothing else changes.
 */

declare(strict_types=1);

[, $host, $port, $stream] = $argv;
$wanted = (int) ($argv[4] ?? 100);

$redis = new Redis();
$redis->connect($host, (int) $port);
// Stream names are whole keys. A prefix, as Laravel sets one by default, would make this another stream.
$redis->setOption(Redis::OPT_PREFIX, '');
$redis->setOption(Redis::OPT_READ_TIMEOUT, 10);

$last = '0';
$read = 0;
while ($read < $wanted) {
    $entries = $redis->xRead([$stream => $last], 100, 2000)[$stream] ?? [];
    if ($entries === []) {
        break;
    }
    foreach ($entries as $id => $result) {
        $last = $id;
        $read++;
        $line = ['task_id' => $result['task_id'], 'status' => $result['status']];
        if ($result['status'] === 'ok') {
            // base64 of little-endian float32; unpack counts from 1.
            $line['vector'] = array_values(unpack('g*', base64_decode($result['embedding'], true)));
            $line['dim'] = (int) $result['dim'];
        } else {
            $line['error'] = $result['error'];
        }
        if (isset($result['metadata'])) {
            $line['metadata'] = json_decode($result['metadata'], true);
        }
        echo json_encode($line, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION), "\n";
    }
}
