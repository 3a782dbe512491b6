<?php
/**
 * Sends texts as Celery tasks, without Celery: php producer.php HOST PORT < texts
 *
 * One task a line of standard input; prints the task id and the queue that it went to. It follows `legit-embedding
 * cutover` as the Python profile does: the same key, the same hash. A producer that sends everything to one queue
 * leaves that out and names the queue.
 */

declare(strict_types=1);

const NAME = 'legit_embedding.preparation.prepare_text';
const OLD_QUEUE = 'legacy_prep';
const NEW_QUEUE = 'embedding';

/** Where a task stands, from 0 up to but not including 100; the same in every language. */
function place(string $taskId): float
{
    return hexdec(substr(hash('sha256', "cutover:$taskId"), 0, 13)) * 100 / 16 ** 13;
}

/** A message of Celery's protocol 2, as it lies in the list that is its queue on Redis. */
function message(array $task, string $queue): string
{
    $id = sprintf('%s-%s-%s-%s-%s', ...array_map(fn (int $bytes) => bin2hex(random_bytes($bytes)), [4, 2, 2, 2, 6]));
    $embed = ['callbacks' => null, 'errbacks' => null, 'chain' => null, 'chord' => null];
    return json_encode([
        'body' => base64_encode(json_encode([[$task], new stdClass(), $embed], JSON_THROW_ON_ERROR)),
        'content-type' => 'application/json',
        'content-encoding' => 'utf-8',
        'headers' => ['lang' => 'php', 'task' => NAME, 'id' => $id, 'root_id' => $id, 'ignore_result' => true],
        'properties' => [
            'correlation_id' => $id,
            'delivery_mode' => 2,
            'delivery_tag' => $id,
            'delivery_info' => ['exchange' => '', 'routing_key' => $queue],
            'body_encoding' => 'base64',
        ],
    ], JSON_THROW_ON_ERROR);
}

[, $host, $port] = $argv;
$redis = new Redis();
$redis->connect($host, (int) $port);
$redis->setOption(Redis::OPT_PREFIX, '');

// A long-lived producer reads this again every few seconds, and keeps what it has when Redis cannot be read.
$plan = json_decode($redis->get('embedding:cutover') ?: '{}', true);

while (($text = fgets(STDIN)) !== false) {
    $task = ['task_id' => bin2hex(random_bytes(8)), 'text' => rtrim($text, "\n")];
    $queue = place($task['task_id']) < ($plan['share'] ?? 0) ? NEW_QUEUE : OLD_QUEUE;
    $redis->lPush($queue, message($task, $queue));
    echo json_encode(['task_id' => $task['task_id'], 'queue' => $queue]), "\n";
}
