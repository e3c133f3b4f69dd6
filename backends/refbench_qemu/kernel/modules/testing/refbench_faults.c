// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests alone: "NAME [SECONDS]" written to /dev/refbench_faults plants the
 * kernel fault of that name in the process that writes. The waits are as long
 * as SECONDS (10 by default), so that a watchdog with a short threshold sees
 * them and the guest lives on.
 */
#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/percpu_counter.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define DEFAULT_SECONDS 10

static void plant_oops(unsigned int seconds)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
}

static void plant_bug(unsigned int seconds)
{
	BUG();
}

static void plant_warn(unsigned int seconds)
{
	WARN(1, "refbench_faults: planted\n");
}

static void plant_panic(unsigned int seconds)
{
	panic("refbench_faults: planted");
}

static void spin(unsigned int seconds)
{
	unsigned long end = jiffies + seconds * HZ;

	while (time_before(jiffies, end))
		cpu_relax();
}

static void plant_softlockup(unsigned int seconds)
{
	preempt_disable();
	spin(seconds);
	preempt_enable();
}

static int keep_a_grace_period(void *unused)
{
	while (!kthread_should_stop())
		synchronize_rcu();
	return 0;
}

static void plant_rcustall(unsigned int seconds)
{
	struct task_struct *waiter;

	/* Only a grace period that has begun can stall. */
	waiter = kthread_run(keep_a_grace_period, NULL, "refbench_rcu");
	if (IS_ERR(waiter))
		return;
	msleep(100);

	rcu_read_lock();
	preempt_disable();
	spin(seconds);
	preempt_enable();
	rcu_read_unlock();
	kthread_stop(waiter);
}

static void plant_hungtask(unsigned int seconds)
{
	schedule_timeout_uninterruptible(seconds * HZ);
}

/* Pages of the kernel's own, until the OOM killer has chosen the writer. */
static void plant_oom(unsigned int seconds)
{
	struct page *page, *next;
	LIST_HEAD(pages);

	while (!fatal_signal_pending(current)) {
		page = alloc_page(GFP_HIGHUSER);
		if (!page)
			break;
		list_add(&page->lru, &pages);
	}
	list_for_each_entry_safe(page, next, &pages, lru)
		__free_page(page);
}

/* Is found when the writer exits: "BUG: Bad rss-counter state". */
static void plant_rss(unsigned int seconds)
{
	percpu_counter_add(&current->mm->rss_stat[MM_ANONPAGES], 2);
}

/* Is found where CONFIG_DEBUG_VM is set: "BUG: Bad page state". */
static void plant_badpage(unsigned int seconds)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (!page)
		return;
	page->mapping = (void *)page;
	__free_page(page);
}

/* Is found where CONFIG_DEBUG_LIST is set. */
static void plant_list(unsigned int seconds)
{
	LIST_HEAD(head);
	LIST_HEAD(entry);

	head.next = &entry;
	list_add_tail(&entry, &head);
}

/* Is found where CONFIG_KASAN is set. */
static void plant_uaf(unsigned int seconds)
{
	char *freed = kmalloc(64, GFP_KERNEL);

	kfree(freed);
	OPTIMIZER_HIDE_VAR(freed);
	if (freed)
		(void)READ_ONCE(freed[8]);
}

/* Is found where CONFIG_PROVE_LOCKING is set. */
static void plant_lockorder(unsigned int seconds)
{
	static DEFINE_SPINLOCK(first);
	static DEFINE_SPINLOCK(second);

	spin_lock(&first);
	spin_lock(&second);
	spin_unlock(&second);
	spin_unlock(&first);

	spin_lock(&second);
	spin_lock(&first);
	spin_unlock(&first);
	spin_unlock(&second);
}

/* The processor that writes is never heard of again. */
static void plant_silent(unsigned int seconds)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static const struct {
	const char *name;
	void (*plant)(unsigned int seconds);
} faults[] = {
	{ "oops", plant_oops },
	{ "bug", plant_bug },
	{ "warn", plant_warn },
	{ "panic", plant_panic },
	{ "softlockup", plant_softlockup },
	{ "rcustall", plant_rcustall },
	{ "hungtask", plant_hungtask },
	{ "oom", plant_oom },
	{ "rss", plant_rss },
	{ "badpage", plant_badpage },
	{ "list", plant_list },
	{ "uaf", plant_uaf },
	{ "lockorder", plant_lockorder },
	{ "silent", plant_silent },
};

static ssize_t refbench_faults_write(struct file *file, const char __user *from,
				     size_t count, loff_t *pos)
{
	unsigned int seconds = DEFAULT_SECONDS;
	char words[32], name[16];
	int i;

	if (count >= sizeof(words))
		return -EINVAL;
	if (copy_from_user(words, from, count))
		return -EFAULT;
	words[count] = '\0';
	if (sscanf(words, "%15s %u", name, &seconds) < 1)
		return -EINVAL;

	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		if (strcmp(name, faults[i].name) == 0) {
			faults[i].plant(seconds);
			return count;
		}
	}
	return -EINVAL;
}

static const struct file_operations refbench_faults_fops = {
	.owner = THIS_MODULE,
	.write = refbench_faults_write,
};

static struct miscdevice refbench_faults_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "refbench_faults",
	.fops = &refbench_faults_fops,
	.mode = 0600,
};

module_misc_device(refbench_faults_device);

MODULE_DESCRIPTION("Test only: plants kernel faults");
MODULE_LICENSE("GPL");
