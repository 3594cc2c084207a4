/*
 * Replays the corpus of the fuzz target network_list.
 */
#include "test/fuzz/network_list.c" /* NOLINT(bugprone-suspicious-include): the target itself */

#include "test/unit/lb/health/corpus.h"

static void nothing_in_the_corpus_fails(void **state)
{
    (void)state;
    corpus_replay("test/fuzz/corpus/network_list", LLVMFuzzerTestOneInput);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_in_the_corpus_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
